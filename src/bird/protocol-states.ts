import type { ReplyLine } from './control.ts';

/** The state of a BGP session, as `show protocols all` reports it. */
export interface ProtocolState {
  readonly name: string;
  /** `Established`, or the state of BGP on the way there: `Idle`, `Connect`, `Active`, `OpenSent`, `OpenConfirm`, `Down`. */
  readonly state: string;
  readonly since: Date;
  /** The last error, or what the peer said when it closed the session. */
  readonly lastError: string | undefined;
  /** The peer restarts; its routes are kept meanwhile. */
  readonly isRestarting: boolean;
  readonly isPassive: boolean;
  /** The peer announces more routes than are imported at most. */
  readonly isAtLimit: boolean;
  /** The number of hops, interfaces or the like of the session: `internal multihop AS4`. */
  readonly session: string | undefined;
  readonly imported: number;
  readonly filtered: number;
  readonly exported: number;
}

const rowCode = 1002;
const detailCode = 1006;

/** Returns the BGP sessions of a reply to `show protocols all`. Source: BIRD 2, nest/proto.c and proto/bgp/bgp.c. */
export function protocolStates(lines: readonly ReplyLine[]): readonly ProtocolState[] {
  const states: ProtocolState[] = [];
  let details: string[] = [];
  let row: string | undefined;
  const finish = () => {
    const state = row === undefined ? undefined : stateOf(row, details);
    if (state !== undefined) states.push(state);
    [row, details] = [undefined, []];
  };
  for (const { code, text } of lines) {
    if (code === rowCode) {
      finish();
      row = text;
    } else if (code === detailCode) {
      details.push(text);
    }
  }
  finish();
  return states;
}

function stateOf(row: string, details: readonly string[]): ProtocolState | undefined {
  const [, name, since = '', info = ''] =
    /^(\S+)\s+BGP\s+\S+\s+\S+\s+(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\s*(.*)$/.exec(row) ?? [];
  if (name === undefined) return undefined;
  const detail = (label: string) =>
    details.map((line) => line.trim()).find((line) => line.startsWith(`${label}:`));
  const valueOf = (label: string) =>
    detail(label)
      ?.slice(label.length + 1)
      .trim();
  const count = (what: string) =>
    Number(new RegExp(`(\\d+) ${what}`).exec(valueOf('Routes') ?? '')?.[1] ?? 0);
  const state = valueOf('BGP state') ?? info.split(/\s+/)[0] ?? '';
  return {
    name,
    state: state === '' ? 'Down' : state,
    since: new Date(since.replace(' ', 'T')),
    lastError: valueOf('Last error'),
    isRestarting: details.some((line) => line.includes('Neighbor graceful restart active')),
    isPassive: info.startsWith('Passive'),
    isAtLimit: /\[HIT\]/.test(valueOf('Import limit') ?? ''),
    session: valueOf('Session'),
    imported: count('imported'),
    filtered: count('filtered'),
    exported: count('exported'),
  };
}
