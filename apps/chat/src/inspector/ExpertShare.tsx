/** How many of a model's experts may be on the GPU. The others are read from where the model is kept, this browser's storage as a rule, when a token needs them. */
import { formatBytes } from "../format.ts";
import type { ModelState } from "../modelState.ts";

const SHARES = [
  [1 / 2, "half of them"],
  [1 / 4, "a quarter"],
  [1 / 8, "an eighth"],
] as const;

export function ExpertShare({ model }: { readonly model: ModelState }) {
  const experts = model.check.value?.experts;
  if (!experts) return null;
  const possible = SHARES.filter(([share]) => experts.bytes * share >= experts.leastBytes);
  return (
    <label class="ask">
      On the GPU{" "}
      <select
        value={String(model.expertShare.value)}
        onChange={({ currentTarget }) => void model.allowExperts(Number(currentTarget.value))}
      >
        <option value="1">as many as fit</option>
        {possible.map(([share, name]) => (
          <option key={share} value={String(share)}>
            {name}, {formatBytes(experts.bytes * share)}
          </option>
        ))}
      </select>
    </label>
  );
}
