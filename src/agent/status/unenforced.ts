import type { Mirror } from '../../cache/mirror.ts';
import type { LiveMirror } from '../../cache/live-mirror.ts';
import {
  isResourceKind,
  resourceKinds,
  resourceTypeOf,
  type EntryKind,
  type ResourceKind,
} from '../../model/kinds/index.ts';
import { describeOther } from '../../model/kinds/other-resource.ts';
import { resourceId } from '../../model/resource-type.ts';
import type { PolicyEngine } from '../../profiles/policy-engine.ts';
import { isStaged } from '../../ruleset/policy.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { Check } from '../../telemetry/status-report.ts';

const maxShown = 5;

/** A stored resource that has no effect on this host. */
interface Unenforced {
  readonly kind: string;
  readonly name: string;
}

/** Reports stored resources that have no effect on this host, one check per kind. */
export function unenforcedChecks(
  mirror: LiveMirror,
  engine: Pick<PolicyEngine, 'stagedHere'>,
): Check[] {
  if (!mirror.inSync) return [];
  const staged = Map.groupBy(engine.stagedHere(), (id): string => id.kind);
  const all = [
    ...resourceKinds.flatMap((kind) => unenforcedOf(mirror, kind)),
    ...[...mirror.list('OtherResource').keys()].map(describeOther),
  ];
  return [...Map.groupBy(all, ({ kind }) => kind)]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([kind, ofKind]) => {
      const names = ofKind.map(({ name }) => name).toSorted();
      const more = names.length > maxShown ? ', …' : '';
      const shown = `${names.length} stored (${names.slice(0, maxShown).join(', ')}${more})`;
      const selecting = staged.get(kind)?.length ?? 0;
      const detail = !isStaged({ kind })
        ? `${shown}, no effect on this host`
        : `${shown}, not enforced; ${selecting} of them select containers or interfaces here`;
      return { name: kind, ok: true, detail };
    });
}

function unenforcedOf<K extends ResourceKind>(mirror: LiveMirror, kind: K): readonly Unenforced[] {
  const { isUnenforced, shown } = resourceTypeOf[kind];
  if (!isUnenforced) return [];
  return [...mirror.list(kind)].map(([, { value }]) => ({
    kind,
    name: resourceId(shown(value)),
  }));
}

/** Logs each of these resources once, when it first appears. */
export function logUnenforced(mirror: Mirror, log: Logger): () => void {
  return mirror.subscribe(({ changes }) => {
    for (const { kind, id, before, now } of changes) {
      const found = before === undefined && now !== undefined ? describe(kind, id) : undefined;
      if (found !== undefined) log.info('resource has no effect on this host', { ...found });
    }
  });
}

function describe(kind: EntryKind, id: string): Unenforced | undefined {
  if (kind === 'OtherResource') return describeOther(id);
  const isUnenforced = isResourceKind(kind) && resourceTypeOf[kind].isUnenforced;
  return isUnenforced ? { kind, name: id } : undefined;
}
