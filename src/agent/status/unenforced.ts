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
import type { Logger } from '../../telemetry/log.ts';
import type { Check } from '../../telemetry/status-report.ts';

const maxShown = 5;

/** A stored resource that has no effect on this host. */
interface Unenforced {
  readonly kind: string;
  readonly name: string;
  /** Whether it is policy that other implementations enforce. */
  readonly isPolicy: boolean;
}

/**
 * Reports stored resources that have no effect on this host, one check per kind. The check of policy fails, because the
 * policy may deny traffic that is allowed here.
 */
export function unenforcedChecks(mirror: LiveMirror): Check[] {
  if (!mirror.inSync) return [];
  const all = [
    ...resourceKinds.flatMap((kind) => unenforcedOf(mirror, kind)),
    ...[...mirror.list('OtherResource').keys()].map(other),
  ];
  return [...Map.groupBy(all, ({ kind }) => kind)]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([kind, ofKind]) => {
      const names = ofKind.map(({ name }) => name).toSorted();
      const more = names.length > maxShown ? ', …' : '';
      const shown = `${names.length} stored (${names.slice(0, maxShown).join(', ')}${more})`;
      return ofKind.some(({ isPolicy }) => isPolicy)
        ? {
            name: kind,
            ok: false,
            detail: `${shown}, not enforced: only Profiles apply to containers`,
            remedy:
              'Move its rules to Profiles (show it: calico-cnm get). Delete it if only Docker hosts use the datastore.',
          }
        : { name: kind, ok: true, detail: `${shown}, no effect on this host` };
    });
}

function unenforcedOf<K extends ResourceKind>(mirror: LiveMirror, kind: K): readonly Unenforced[] {
  const { unenforced, shown } = resourceTypeOf[kind];
  if (unenforced === undefined) return [];
  return [...mirror.list(kind)]
    .filter(([id]) => unenforced.isPreset?.(id) !== true)
    .map(([, { value }]) => ({
      kind,
      name: resourceId(shown(value)),
      isPolicy: unenforced.isPolicy,
    }));
}

/** A resource of unknown kind is not reported as policy. */
function other(id: string): Unenforced {
  return { ...describeOther(id), isPolicy: false };
}

/** Logs each of these resources once, when it first appears. */
export function logUnenforced(mirror: Mirror, log: Logger): () => void {
  return mirror.subscribe(({ changes }) => {
    for (const { kind, id, before, now } of changes) {
      const found = before === undefined && now !== undefined ? describe(kind, id) : undefined;
      if (found !== undefined) logOne(log, found);
    }
  });
}

function describe(kind: EntryKind, id: string): Unenforced | undefined {
  if (kind === 'OtherResource') return other(id);
  const unenforced = isResourceKind(kind) ? resourceTypeOf[kind].unenforced : undefined;
  if (unenforced === undefined || unenforced.isPreset?.(id) === true) return undefined;
  return { kind, name: id, isPolicy: unenforced.isPolicy };
}

function logOne(log: Logger, { kind, name, isPolicy }: Unenforced): void {
  if (isPolicy) {
    log.warn('policy not enforced: only Profiles apply to containers', { kind, name });
  } else {
    log.info('resource has no effect on this host', { kind, name });
  }
}
