import type { Check } from '../../telemetry/status-report.ts';

const maxNamed = 3;

/** Reports the other hosts of the datastore, and that routes to them are not distributed yet. */
export function otherHostChecks(own: string, nodes: Iterable<string>): readonly Check[] {
  const others = [...nodes].filter((name) => name !== own).toSorted();
  if (others.length === 0) return [];
  const named = others.slice(0, maxNamed).join(', ');
  const more = others.length > maxNamed ? ` and ${others.length - maxNamed} more` : '';
  return [
    {
      name: 'other hosts',
      ok: true,
      detail: `${named}${more} share this datastore. Profiles and IP pools are common. calico-cnm does not distribute routes between hosts yet; your network must route the addresses of containers`,
    },
  ];
}
