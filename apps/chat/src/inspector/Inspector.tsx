/** The model at work: how fast, which experts, what else it might have said, what it holds in memory, where the time goes. */
import type { Inspection, PagingView } from "@shoal/web";
import { useEffect, useMemo } from "preact/hooks";
import type { AppState } from "../appState.ts";
import { formatBytes } from "../format.ts";
import { Alternatives } from "./Alternatives.tsx";
import { ExpertMap } from "./ExpertMap.tsx";
import { ExpertShare } from "./ExpertShare.tsx";
import { InspectorState } from "./inspectorState.ts";
import { KernelTable } from "./KernelTable.tsx";
import { MemoryBars } from "./MemoryBars.tsx";
import "../styles/inspector.css";

export function Inspector({ app }: { readonly app: AppState }) {
  const state = useMemo(() => new InspectorState(app), [app]);
  useEffect(() => state.start(), [state]);
  const inspection = state.inspection.value;
  const rates = state.rates.value;
  const answer = state.answer.value;
  const perSecond = rates?.tokensPerSecond ?? answer.tokensPerSecond;
  return (
    <div class="inspector-parts">
      <section aria-labelledby="inspect-speed">
        <h2 id="inspect-speed">Speed</h2>
        <dl class="figures">
          <Figure name="tokens/s" value={perSecond === null ? "–" : perSecond.toFixed(1)} />
          <Figure name="ms to first token" value={answer.firstTokenMs === null ? "–" : answer.firstTokenMs.toFixed(0)} />
          <Figure name="tokens a step" value={rates ? rates.tokensPerStep.toFixed(2) : "–"} />
        </dl>
        {inspection && (
          <p class="quiet">
            {mtpLine(inspection)} {cacheLine(inspection.status.totals.cachedTokens, inspection.status.totals.promptTokens)}
          </p>
        )}
      </section>
      <section aria-labelledby="inspect-experts">
        <h2 id="inspect-experts">Experts</h2>
        {inspection ? <ExpertMap layers={state.layers.value} inspection={inspection} /> : <NotHere />}
        <ExpertShare model={app.model} />
        {inspection?.paging && (
          <p class="quiet" data-paging>
            {pagingLine(inspection.paging)}
          </p>
        )}
      </section>
      <section aria-labelledby="inspect-tokens">
        <h2 id="inspect-tokens">Alternatives</h2>
        <label class="ask">
          <input
            type="checkbox"
            checked={state.asksAlternatives}
            onChange={({ currentTarget }) => (state.wantsAlternatives.value = currentTarget.checked)}
          />
          Ask for them with each answer
        </label>
        <Alternatives tokens={answer.tokens} before={answer.before} />
      </section>
      <section aria-labelledby="inspect-memory">
        <h2 id="inspect-memory">Memory</h2>
        {inspection ? <MemoryBars memory={inspection.memory} kvBlocks={inspection.status.kvBlocks} /> : <NotHere />}
      </section>
      <section aria-labelledby="inspect-kernels">
        <h2 id="inspect-kernels">GPU time by kernel</h2>
        {inspection?.paging ? (
          <p class="quiet">Only where all experts are on the GPU.</p>
        ) : inspection ? (
          <KernelTable app={app} available={inspection.timestamps} />
        ) : (
          <NotHere />
        )}
      </section>
    </div>
  );
}

function Figure({ name, value }: { readonly name: string; readonly value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function NotHere() {
  return <p class="quiet">Only for a model on this device.</p>;
}

const WITHOUT_DRAFTS = {
  none: "This model has no MTP module to draft with",
  processor: "The model’s MTP module is not used: on a processor, drafts seldom save more time than they cost",
  "two-gpus": "The model’s MTP module is not used: its layers lie on two GPUs",
} as const;

function mtpLine({ mtp, status: { totals } }: Inspection): string {
  if (mtp !== "drafts") return `${WITHOUT_DRAFTS[mtp]}. So a step gives each answer one token.`;
  if (totals.draftTokens === 0) return "The MTP module drafts tokens where that is faster, which it has not been so far.";
  return `The MTP module drafts tokens where that is faster: ${totals.acceptedDraftTokens} of ${totals.draftTokens} were right.`;
}

function pagingLine({ expertBytes, allBytes, needed, hits, loads, loadedBytes, stallMs }: PagingView): string {
  const there = `Of ${formatBytes(allBytes)} of experts ${formatBytes(expertBytes)} are on the GPU; the others are read when a token needs them.`;
  if (needed === 0) return there;
  const share = ((100 * hits) / needed).toFixed(0);
  return `${there} So far ${share} % of those needed were there, ${loads} were read (${formatBytes(loadedBytes)}), and answers waited ${(stallMs / 1000).toFixed(1)} s for them.`;
}

function cacheLine(cached: number, prompts: number): string {
  return prompts === 0 ? "" : `${cached} of ${prompts} tokens of prompts were found in the cache.`;
}
