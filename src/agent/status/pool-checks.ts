import { poolIsEnabled, type IpPool } from '../../model/kinds/ip-pool.ts';
import type { Check } from '../../telemetry/status-report.ts';

/** Reports IP pools with IP-in-IP, because calico-cnm does not create such tunnels. */
export function ipipChecks(pools: readonly IpPool[]): readonly Check[] {
  return pools.filter(poolIsEnabled).flatMap(({ metadata, spec }) => {
    const mode = spec.ipipMode ?? '';
    if (mode === '' || mode === 'Never') return [];
    return [
      {
        name: `IP pool ${metadata.name}`,
        ok: false,
        detail: `ipipMode is ${mode}, but calico-cnm does not create IP-in-IP tunnels; containers reach hosts in other subnets only by the routes of your network`,
        remedy: `Set ipipMode to Never and vxlanMode to ${mode} (calico-cnm apply), or let Felix create the tunnel on every host.`,
      },
    ];
  });
}
