import type { DaemonStatus, RouteStatus } from '../model/kinds/calico-node-status.ts';
import type { BgpSession } from '../routing/bgp/bgp-sessions.ts';
import type { ReplyLine } from './control.ts';

/** What BIRD says of itself and of its routes, in the words of CalicoNodeStatus. */

/** Returns the state of BIRD from a reply to `show status`; `undefined`: it does not run. Source: BIRD 2, nest/cmds.c. */
export function daemonStatus(lines: readonly ReplyLine[] | undefined): DaemonStatus {
  if (lines === undefined) return { state: 'NotReady' };
  const after = (start: string) => {
    const line = lines.map(({ text }) => text.trim()).find((text) => text.startsWith(start));
    return line?.slice(start.length).trim() ?? '';
  };
  return {
    state: lines.some(({ text }) => text.includes('up and running')) ? 'Ready' : 'NotReady',
    version: after('BIRD '),
    routerID: after('Router ID is '),
    lastBootTime: after('Last reboot on '),
    lastReconfigurationTime: after('Last reconfiguration on '),
  };
}

const rowCode = 1007;

/** Returns the routes of a reply to `show route`, those in use as `FIB`. Source: BIRD 2, nest/rt-show.c. */
export function routeStatuses(
  lines: readonly ReplyLine[],
  sessions: readonly Pick<BgpSession, 'name' | 'kind' | 'peer'>[],
): readonly RouteStatus[] {
  const byName = new Map(sessions.map((session) => [session.name, session]));
  const routes: RouteStatus[] = [];
  let destination = '';
  for (const { code, text } of lines) {
    if (code !== rowCode) continue;
    const row = /^(\S*)\s+\w+ \[(\S+) [^\]]*\]( \*)?/.exec(text);
    if (row === null) {
      const last = routes.pop();
      if (last !== undefined) routes.push({ ...nextHopOf(text), ...last });
      continue;
    }
    const [, net = '', protocol = '', primary] = row;
    if (net !== '') destination = net;
    routes.push({
      type: primary === undefined ? 'RIB' : 'FIB',
      destination,
      learnedFrom: sourceOf(protocol, byName.get(protocol)),
    });
  }
  return routes;
}

/** Of several next hops the first one stands, for which there is room. */
function nextHopOf(text: string): Pick<RouteStatus, 'gateway' | 'interface'> {
  const [, gateway, device] = /^\s+(?:via (\S+) on|dev) (\S+)/.exec(text) ?? [];
  return {
    ...(gateway === undefined ? {} : { gateway }),
    ...(device === undefined ? {} : { interface: device }),
  };
}

function sourceOf(
  protocol: string,
  session: Pick<BgpSession, 'kind' | 'peer'> | undefined,
): NonNullable<RouteStatus['learnedFrom']> {
  if (session !== undefined) {
    return { sourceType: session.kind === 'mesh' ? 'NodeMesh' : 'BGPPeer', peerIP: session.peer };
  }
  if (protocol.startsWith('kernel')) return { sourceType: 'Kernel' };
  return { sourceType: protocol.startsWith('direct') ? 'Direct' : 'Static' };
}
