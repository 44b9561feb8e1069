import { z } from 'zod';
import type { BgpModel } from '../routing/bgp/bgp-model.ts';
import type { BgpSession } from '../routing/bgp/bgp-sessions.ts';
import { peerAnnotations } from '../routing/bgp/peer-annotations.ts';
import type { Check } from '../telemetry/status-report.ts';
import type { ProtocolState } from './protocol-states.ts';

/** Report of `calico-cnm bgp status`: the daemon sends it as JSON over its control socket. */
export const bgpReport = z.object({
  /** Why BGP is off on this host, or why BIRD does not run; absent if it runs. */
  why: z.string().optional(),
  isOn: z.boolean(),
  node: z.string(),
  routerId: z.string(),
  /** Whether peers are to avoid the routes of the node. */
  isDraining: z.boolean().default(false),
  sessions: z.array(
    z.object({
      peer: z.string(),
      /** The node, or the resource that asks for the session. */
      of: z.string(),
      type: z.string(),
      as: z.int(),
      state: z.string(),
      /** RFC 3339. */
      since: z.string().optional(),
      imported: z.int(),
      filtered: z.int(),
      exported: z.int(),
      /** The peer announces more routes than are taken from it. */
      isAtLimit: z.boolean().default(false),
      /** Why it is down. */
      why: z.string().optional(),
    }),
  ),
  /** Parts of resources that have no effect. */
  problems: z.array(z.string()),
  /** The last change of resources that ended sessions, since the start of the daemon. */
  ended: z.object({ at: z.string(), peers: z.array(z.string()) }).optional(),
});

export type BgpReport = z.infer<typeof bgpReport>;
type SessionReport = BgpReport['sessions'][number];

const types = { mesh: 'node-to-node mesh', global: 'global', node: 'node specific' } as const;

/** Returns the report of a node whose BIRD answered with these states; `undefined`: it does not run. */
export function reportOf(
  model: BgpModel,
  states: readonly ProtocolState[] | undefined,
  why?: string,
): BgpReport {
  const byName = new Map(states?.map((state) => [state.name, state]));
  return {
    isOn: true,
    ...(why === undefined ? {} : { why }),
    node: model.node,
    routerId: model.routerId,
    isDraining: model.isDraining,
    sessions: model.sessions.map((session) => describeSession(session, byName.get(session.name))),
    problems: model.problems.map(({ resource, field, why: reason }) =>
      [resource, field === '' ? '' : `${field}:`, reason].filter((part) => part !== '').join(' '),
    ),
  };
}

function describeSession(session: BgpSession, state: ProtocolState | undefined): SessionReport {
  const { peer, port, peerAs, kind, peerNode, resource } = session;
  const base = {
    peer: port === 179 ? peer : `${peer} port ${port}`,
    of: peerNode === undefined ? resource : `node ${peerNode}`,
    type: types[kind],
    as: peerAs,
  };
  if (state === undefined) {
    return {
      ...base,
      state: 'Down',
      imported: 0,
      filtered: 0,
      exported: 0,
      isAtLimit: false,
      why: 'BIRD does not run',
    };
  }
  const { since, imported, filtered, exported, isAtLimit } = state;
  const why = whyDown(session, state);
  return {
    ...base,
    state: state.isPassive && state.state !== 'Established' ? 'Passive' : state.state,
    ...(Number.isNaN(since.getTime()) ? {} : { since: since.toISOString() }),
    imported,
    filtered,
    exported,
    isAtLimit,
    ...(why === undefined ? {} : { why }),
  };
}

/** Returns why a session is not established, as far as this end can know it. */
export function whyDown(session: BgpSession, state: ProtocolState): string | undefined {
  if (state.state === 'Established') return undefined;
  const reason = reasonOf(session, state);
  return state.isRestarting ? `${reason}; its routes are kept meanwhile` : reason;
}

function reasonOf(
  { peer, port, localAs, peerAs, password }: BgpSession,
  state: ProtocolState,
): string {
  const { lastError = '', isPassive } = state;
  const [, source = '', text = ''] = /^(\w+(?: \w+)?): (.*)$/.exec(lastError) ?? [];
  if (/connection refused/i.test(text)) {
    return `${peer} refuses TCP port ${port}: no BGP speaker runs there, or it does not expect this host`;
  }
  if (/(no route to host|network is unreachable|host is unreachable)/i.test(text)) {
    return `no route to ${peer}`;
  }
  if (/bad peer as/i.test(text)) {
    return source === 'Received'
      ? `${peer} expects another AS number than ${localAs}, that of this host`
      : `${peer} has another AS number than ${peerAs}: ${text.toLowerCase()}`;
  }
  if (/hold timer expired/i.test(text)) return `nothing heard from ${peer} within the hold time`;
  if (/authentication/i.test(text)) return `${peer} refuses the password`;
  if (source === 'Received') return `${peer} closed the session: ${text}`;
  if (/^(BFD|Route limit)/i.test(source) || source === 'Automatic shutdown') return lastError;
  if (lastError !== '' && !/connection (closed|reset)/i.test(text)) return `${lastError} (${peer})`;
  if (lastError !== '') {
    return `${peer} closed the connection: it does not expect this host, waits after an error, or has stopped`;
  }
  const another = password === undefined ? 'a password there' : 'another password';
  if (isPassive) return `waits for ${peer}, which connects to this host`;
  return `no answer from ${peer}: filtered, or ${another}`;
}

/** Returns the checks of `calico-cnm status`. */
export function bgpChecks(report: BgpReport): readonly Check[] {
  const name = 'BGP';
  if (!report.isOn) return [];
  const problems = report.problems.map((detail) => ({
    name,
    ok: false,
    detail,
    remedy: 'Correct the resource: calico-cnm get, calico-cnm apply.',
  }));
  if (report.why !== undefined) {
    const remedy = 'Meanwhile hosts of one subnet reach each other by direct routes.';
    return [{ name, ok: false, detail: report.why, remedy }, ...problems];
  }
  const limited = report.sessions
    .filter(({ isAtLimit }) => isAtLimit)
    .map(({ peer, imported }) => ({
      name,
      ok: false,
      detail: `${peer} announces more than ${imported} routes; the others are not used`,
      remedy: `Correct the peer, or raise the annotation ${peerAnnotations.maxPrefixes} of its BGPPeer.`,
    }));
  const down = report.sessions.filter(({ state }) => state !== 'Established');
  const up = report.sessions.length - down.length;
  const count = `${up} of ${report.sessions.length} sessions established, router ID ${report.routerId}`;
  const [first] = down;
  return [
    first === undefined
      ? { name, ok: true, detail: count }
      : {
          name,
          ok: false,
          detail: `${count}; ${first.peer}: ${first.why ?? first.state}`,
          remedy: 'See calico-cnm bgp status.',
        },
    ...limited,
    ...problems,
  ];
}
