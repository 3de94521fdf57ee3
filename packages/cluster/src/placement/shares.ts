/** Layers or experts divided among devices in proportion. */
import { ClusterError } from "../errors.ts";

/** Whole numbers in proportion, one at least each. @throws ClusterError named bad-plan */
export function shares(total: number, parts: readonly number[]): readonly number[] {
  if (parts.length > total)
    throw new ClusterError("bad-plan", `Cannot divide ${total} among ${parts.length} devices, expected one at least for each`);
  const sum = parts.reduce((all, part) => all + part, 0);
  const counts = parts.map((part) => Math.max(1, Math.floor((total * part) / sum)));
  for (let left = total - counts.reduce((all, count) => all + count, 0); left !== 0; left += left > 0 ? -1 : 1) {
    // Whoever is furthest from its share gives or takes.
    const missing = counts.map((count, index) =>
      left < 0 && count === 1 ? Number.POSITIVE_INFINITY : (total * (parts[index] ?? 0)) / sum - count,
    );
    const index = missing.indexOf(left > 0 ? Math.max(...missing) : Math.min(...missing));
    counts[index] = (counts[index] ?? 0) + Math.sign(left);
  }
  return counts;
}
