/** A model's folder on this machine: by the File System Access API where there is one, else by a file field that takes folders. Nothing is copied or sent. */
import { useRef } from "preact/hooks";

interface FolderPickerProps {
  readonly onFiles: (name: string, files: readonly File[]) => void;
  readonly onProblem: (text: string | null) => void;
}

interface DirectoryHandle {
  readonly name: string;
  values(): AsyncIterable<{ readonly kind: string; getFile(): Promise<File> }>;
}

type DirectoryPicker = () => Promise<DirectoryHandle>;

/** A folder with more is none of a checkpoint. */
const MAX_FILES = 4096;

export function FolderPicker({ onFiles, onProblem }: FolderPickerProps) {
  const field = useRef<HTMLInputElement>(null);
  const take = (name: string, files: readonly File[]): void => {
    if (files.some((file) => file.name === "config.json")) onFiles(name, files);
    else onProblem(`Cannot use '${name}' as a model: it has no 'config.json', expected a checkpoint's folder`);
  };
  const pick = async (): Promise<void> => {
    onProblem(null);
    const { showDirectoryPicker } = globalThis as { readonly showDirectoryPicker?: DirectoryPicker };
    if (!showDirectoryPicker) {
      field.current?.click();
      return;
    }
    try {
      const directory = await showDirectoryPicker();
      const files: File[] = [];
      for await (const handle of directory.values()) {
        if (handle.kind === "file" && files.length < MAX_FILES) files.push(await handle.getFile());
      }
      take(directory.name, files);
    } catch (error) {
      // Closing the dialog is no problem.
      if (!(error instanceof DOMException && error.name === "AbortError"))
        onProblem(error instanceof Error ? error.message : String(error));
    }
  };
  return (
    <p>
      <button type="button" onClick={() => void pick()}>
        Choose a folder
      </button>
      <input
        ref={field}
        class="hidden"
        type="file"
        aria-label="Folder of a model"
        tabIndex={-1}
        {...{ webkitdirectory: true }}
        onChange={({ currentTarget }) => {
          // Only what lies directly in the folder: names of subfolders' files may be the same.
          const files = [...(currentTarget.files ?? [])].filter(({ webkitRelativePath }) => webkitRelativePath.split("/").length <= 2);
          const name = files[0]?.webkitRelativePath.split("/")[0] ?? "folder";
          currentTarget.value = "";
          take(name, files.slice(0, MAX_FILES));
        }}
      />
    </p>
  );
}
