import { writeFileSync } from 'node:fs';
import type { ClusterHost } from '../../test/lab/cluster/cluster-host.ts';

/** What the benchmarks of a cluster have in common. */

interface PoolFacts {
  readonly name: string;
  readonly cidr: string;
  readonly mode: 'direct' | 'vxlan' | 'ipip';
  readonly blockSize?: number;
}

/** Creates an IP pool. */
export async function applyPool(host: ClusterHost, facts: PoolFacts): Promise<void> {
  const { name, cidr, mode, blockSize = 26 } = facts;
  const modeOf = (encapsulation: typeof mode) => (mode === encapsulation ? 'Always' : 'Never');
  const pool = {
    apiVersion: 'projectcalico.org/v3',
    kind: 'IPPool',
    metadata: { name },
    spec: {
      cidr,
      blockSize,
      vxlanMode: modeOf('vxlan'),
      ipipMode: modeOf('ipip'),
      natOutgoing: true,
    },
  };
  writeFileSync(host.host.path(`/run/${name}.json`), JSON.stringify(pool));
  await host.calico('apply', '-f', `/run/${name}.json`);
}

/** Returns the path of a container's network namespace. */
export async function namespaceOf(host: ClusterHost, container: string): Promise<string> {
  const pid = await host.host.docker('inspect', '-f', '{{.State.Pid}}', container);
  return host.host.path(`/proc/${pid}/ns/net`);
}
