import type { BgpModel } from '../routing/bgp/bgp-model.ts';
import { bgpIsOff, type BgpState } from '../routing/bgp/bgp-state.ts';
import type { ProtocolState } from './protocol-states.ts';

/** A session that has been up for so long has told all of its routes. Source: calico/node's readiness threshold. */
const settledMs = 30_000;
/** By then all hosts have made a change of sessions, and the ends of each agree. */
const changeMs = 10_000;

/** The peer or the path to it is gone; it is not an end that waits for the other to make the same change. */
const pathLost =
  /BFD session down|hold timer expired|no route to host|(network|host) is (unreachable|down)|link down|timed out/i;

/**
 * Whether BIRD's routes to other hosts can be relied on. While sessions begin again because resources have changed, they
 * cannot: on this host and on others, which make the change at about the same time. A session that is lost otherwise is
 * no reason to leave BIRD's other routes: a direct route would lead where the session was lost.
 */
export class SessionChanges {
  #changedAt = Number.NEGATIVE_INFINITY;

  /** Sessions are about to end by a change of resources. */
  changed(nowMs: number): void {
    this.#changedAt = nowMs;
  }

  stateOf(
    { sessions, programsClusterRoutes }: Pick<BgpModel, 'sessions' | 'programsClusterRoutes'>,
    states: readonly ProtocolState[],
    nowMs: number,
  ): BgpState {
    const established = states.filter(({ state }) => state === 'Established');
    const up = new Set(established.map(({ name }) => name));
    const lost = states.filter(
      ({ state, lastError = '' }) => state !== 'Established' && pathLost.test(lastError),
    );
    const sinceMs = nowMs - this.#changedAt;
    const isChanging = sinceMs < settledMs && up.size + lost.length < sessions.length;
    // The change is over: a session that is lost later is of no concern.
    if (!isChanging && sinceMs > changeMs) this.#changedAt = Number.NEGATIVE_INFINITY;
    if (isChanging || !programsClusterRoutes) return bgpIsOff;
    return {
      isOn: true,
      isSettled: established.some(({ since }) => nowMs - since.getTime() > settledMs),
      hasRouter: sessions.some(({ name, peerNode }) => peerNode === undefined && up.has(name)),
    };
  }
}
