import type { Draft } from '../../datastore/writer.ts';
import { isBgpEnabled } from '../../model/kinds/bgp-configuration.ts';
import type { ResourceKind } from '../../model/kinds/index.ts';
import { sessionRestarts, type BgpResources } from '../../routing/bgp/session-restarts.ts';

const kinds: ReadonlySet<ResourceKind> = new Set<ResourceKind>([
  'Node',
  'BGPConfiguration',
  'BGPPeer',
  'BGPFilter',
]);
const maxNamed = 3;

/** Reports whether a change of a resource of this kind may end BGP sessions. */
export function concernsSessions(kind: ResourceKind): boolean {
  return kinds.has(kind);
}

/** Runs a plan, and returns a sentence if its changes end BGP sessions and start them again; for a rehearsal. */
export function sessionRestartNotes(
  draft: Draft,
  plan: (draft: Draft) => unknown,
): readonly string[] {
  const isOn = () => isBgpEnabled(draft.get('BGPConfiguration', 'default'));
  const wasOn = isOn();
  // Reading all nodes is for clusters with BGP.
  const before = wasOn ? resourcesIn(draft) : undefined;
  plan(draft);
  if (before === undefined || !isOn()) return [];
  const { sessions, isPart } = sessionRestarts(before, resourcesIn(draft));
  if (sessions.length === 0) return [];
  const more = sessions.length > maxNamed ? ', …' : '';
  const count = `${isPart ? 'at least ' : ''}${sessions.length} BGP ${sessions.length === 1 ? 'session' : 'sessions'}`;
  const verbs = sessions.length === 1 ? 'ends and starts' : 'end and start';
  return [`${count} ${verbs} again: ${sessions.slice(0, maxNamed).join(', ')}${more}`];
}

function resourcesIn(draft: Draft): BgpResources {
  return {
    nodes: new Map(draft.entries('Node')),
    configurations: new Map(draft.entries('BGPConfiguration')),
    peers: new Map(draft.entries('BGPPeer')),
    filters: new Map(draft.entries('BGPFilter')),
  };
}
