/** Which pages of a group of experts a dispatch binds (shaders/lib/expert_pages.wgsl). */
import type { BufferRange, GpuContext, ShaderConstants } from "@shoal/gpu";
import type { ExpertPage } from "./experts.ts";

/** Pages that the shaders can bind at once, where the device's limit allows. */
const MAX_PAGES_BOUND = 8;

/** Pages bound together in one dispatch. */
export interface PageSet {
  readonly constants: ShaderConstants;
  readonly buffers: Readonly<Record<string, BufferRange>>;
  /** Share of the group's experts. */
  readonly share: number;
}

/**
 * The fewest sets of pages beside `others` further storage bindings.
 * @throws RangeError if a page other than the last holds another number of experts than the first, or pages do not follow each other.
 */
export function pageSets(gpu: GpuContext, pages: readonly ExpertPage[], others: number): readonly PageSet[] {
  const bound = Math.max(1, Math.min(MAX_PAGES_BOUND, gpu.limits.maxStorageBuffersPerShaderStage - others));
  const expertsPerPage = pages[0]?.experts ?? 0;
  for (const [index, page] of pages.entries()) {
    const even = index === pages.length - 1 ? page.experts <= expertsPerPage : page.experts === expertsPerPage;
    if (page.firstExpert !== index * expertsPerPage || !even)
      throw new RangeError(
        `Cannot bind experts: page ${index} holds ${page.experts} from ${page.firstExpert} on, expected ${expertsPerPage} from ${index * expertsPerPage} on`,
      );
  }
  const count = pages.reduce((sum, page) => sum + page.experts, 0);
  const sets: PageSet[] = [];
  for (let start = 0; start < pages.length; start += bound) {
    const members = pages.slice(start, start + bound);
    const experts = members.reduce((sum, page) => sum + page.experts, 0);
    sets.push({
      constants: {
        EXPERTS_PER_PAGE: expertsPerPage,
        SET_FIRST: start * expertsPerPage,
        SET_EXPERTS: experts,
        ...Object.fromEntries(members.slice(1).map((_, i) => [`PAGE${i + 1}`, true])),
      },
      buffers: Object.fromEntries(members.map((page, i) => [`weights${i}`, page.buffer])),
      share: experts / count,
    });
  }
  return sets;
}
