import type { Work } from '../async/supervise.ts';
import { pause } from '../async/deadline.ts';
import { nodeStatus, type BirdFacts } from '../bird/node-status.ts';
import type { Mirror } from '../cache/mirror.ts';
import type { Writer } from '../datastore/writer.ts';
import type { CalicoNodeStatus } from '../model/kinds/calico-node-status.ts';

/** How often it is looked which are due. */
const lookMs = 1000;

/** What the answers to CalicoNodeStatus need. */
export interface NodeStatusesDeps {
  readonly node: string;
  readonly mirror: Pick<Mirror, 'cached' | 'inSync'>;
  readonly writer: Writer;
  /** The routes may be many: they are only read if one asks for them. */
  readonly facts: (withRoutes: boolean, signal: AbortSignal) => Promise<BirdFacts>;
  readonly now: () => Date;
}

/** Answers every CalicoNodeStatus of this node in its period, until the signal is aborted. */
export async function keepNodeStatuses(
  { node, mirror, writer, facts, now }: NodeStatusesDeps,
  work: Work,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      const due = mirror.inSync ? dueStatuses(mirror, node, now()) : [];
      if (due.length > 0) {
        const withRoutes = due.some(({ spec }) => spec.classes.includes('Routes'));
        const found = await facts(withRoutes, signal);
        await writer.write((draft) => {
          for (const { metadata } of due) {
            const { name } = metadata;
            const present = draft.get('CalicoNodeStatus', name);
            if (present === undefined || present.spec.node !== node) continue;
            const status = nodeStatus(found, present.spec.classes, now());
            draft.put('CalicoNodeStatus', name, { ...present, status });
          }
        }, signal);
      }
      work.succeeded();
    } catch (error) {
      if (signal.aborted) return;
      work.failed(error);
    }
    await pause(lookMs, signal);
  }
}

function dueStatuses(
  mirror: Pick<Mirror, 'cached'>,
  node: string,
  now: Date,
): readonly CalicoNodeStatus[] {
  return [...mirror.cached('CalicoNodeStatus').values()]
    .map(({ value }) => value)
    .filter((one) => one.spec.node === node && isDue(one, now));
}

function isDue({ spec, status }: CalicoNodeStatus, now: Date): boolean {
  const { updatePeriodSeconds = 0 } = spec;
  if (updatePeriodSeconds === 0) return false;
  const last = Date.parse(status?.lastUpdated ?? '');
  // One in the future is from a clock that was wrong.
  const isRecent = last <= now.getTime() && now.getTime() - last < updatePeriodSeconds * 1000;
  return !isRecent;
}
