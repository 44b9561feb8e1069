import { poolIsEnabled, type IpPool } from '../../model/kinds/ip-pool.ts';
import type { Check } from '../../telemetry/status-report.ts';

/** Reports IP pools with a tunnel mode, because calico-cnm does not create tunnels. */
export function tunnelChecks(pools: readonly IpPool[]): Check[] {
  return pools.filter(poolIsEnabled).flatMap(({ metadata, spec }): Check[] =>
    (['ipipMode', 'vxlanMode'] as const).flatMap((field) => {
      const mode = spec[field] ?? '';
      if (mode === '' || mode === 'Never') return [];
      return [
        {
          name: `IP pool ${metadata.name}`,
          ok: false,
          detail: `${field} is ${mode}, but calico-cnm does not create tunnels; containers reach other hosts only by the routes of your network`,
          remedy: `Set ${field} to Never (calico-cnm apply), or let Felix create the tunnel on every host.`,
        },
      ];
    }),
  );
}
