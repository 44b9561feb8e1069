import type { Stamp } from '../model/stamp.ts';
import type { Draft } from './writer.ts';

/**
 * The VNI that a cluster gets whose FelixConfiguration names none. Felix's default, 4096, is the one of Docker Swarm's
 * ingress network, and Swarm counts on from there; Docker's older overlay networks begin at 256.
 */
export const chosenVni = 200;

/** The FelixConfiguration of all nodes. */
const name = 'default';

/**
 * A plan that chooses the VNI before the cluster has a tunnel; all nodes, also those of Felix, read it. A cluster that
 * names one keeps it, and one that has tunnels keeps Felix's default.
 */
export function chooseVni(draft: Draft, stamp: Stamp): void {
  if (draft.isUnreadable('FelixConfiguration', name)) return;
  const stored = draft.get('FelixConfiguration', name);
  if (stored?.spec.vxlanVNI !== undefined) return;
  const spec = { ...stored?.spec, vxlanVNI: chosenVni };
  const configuration =
    stored === undefined
      ? stamp({
          kind: 'FelixConfiguration' as const,
          apiVersion: 'projectcalico.org/v3' as const,
          metadata: { name },
          spec,
        })
      : { ...stored, spec };
  draft.put('FelixConfiguration', name, configuration);
}

/** Reports whether a node has a VXLAN tunnel. */
export function hasTunnels(draft: Draft): boolean {
  for (const [, { spec }] of draft.entries('Node')) {
    const { ipv4VXLANTunnelAddr = '', ipv6VXLANTunnelAddr = '' } = spec;
    if (ipv4VXLANTunnelAddr !== '' || ipv6VXLANTunnelAddr !== '') return true;
  }
  return false;
}
