import type { LiveMirror } from '../../cache/live-mirror.ts';
import type { Mirror } from '../../cache/mirror.ts';
import { describeOther } from '../../model/kinds/other-resource.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { Check } from '../../telemetry/status-report.ts';

/** Tiers that Calico makes by itself, which say nothing without policies. */
const ownTiers = new Set(['default', 'kube-admin', 'kube-baseline']);
const shownAtMost = 5;

/**
 * What is stored for Calico and has no effect on this host, a line for each kind. Policy that is not enforced is not
 * well: it may deny what passes here.
 */
export function otherResourceChecks(mirror: LiveMirror): Check[] {
  if (!mirror.inSync) return [];
  const others = [...mirror.list('OtherResource').keys()].map(describeOther);
  const tiers = [...mirror.list('Tier').keys()]
    .filter((name) => !ownTiers.has(name))
    .map((name) => ({ kind: 'Tier', name, isPolicy: true }));
  const byKind = Map.groupBy([...others, ...tiers], ({ kind }) => kind);
  return [...byKind]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([kind, all]) => {
      const names = all.map(({ name }) => name).toSorted();
      const more = names.length > shownAtMost ? ', …' : '';
      const shown = `${names.length} stored (${names.slice(0, shownAtMost).join(', ')}${more})`;
      return all.some(({ isPolicy }) => isPolicy)
        ? {
            name: kind,
            ok: false,
            detail: `${shown}, not enforced: traffic of containers is decided by their Profiles alone`,
            remedy:
              'Put what it says into Profiles (calicoctl shows it), and delete it where only Docker hosts go by it.',
          }
        : { name: kind, ok: true, detail: `${shown}, without effect here` };
    });
}

/** Logs each of them once, when it is seen first. */
export function logOtherResources(mirror: Mirror, log: Logger): () => void {
  return mirror.subscribe(({ changes }) => {
    for (const { kind, id, before, now } of changes) {
      if (kind === 'OtherResource' && before === undefined && now !== undefined) logOther(log, id);
    }
  });
}

function logOther(log: Logger, id: string): void {
  const { kind, name, isPolicy } = describeOther(id);
  if (isPolicy) {
    log.warn(
      'policy that is not enforced: traffic of containers is decided by their Profiles alone',
      { kind, name },
    );
  } else {
    log.info('resource without effect here', { kind, name });
  }
}
