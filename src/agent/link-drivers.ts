import type { Links, OwnLinks } from '../dataplane/tunnels/links.ts';
import type { Neighbours } from '../dataplane/tunnels/neighbours.ts';
import { allTunnels } from '../routing/tunnels.ts';
import type { Driver } from './manager.ts';

/** The links that belong to us. */
export const ownLinks: OwnLinks = new Map(
  allTunnels.map(({ device, encapsulation }) => [device, encapsulation]),
);

/** Those of our links on which neighbours and forwarding entries belong to us. */
export const linksWithNeighbours: readonly string[] = allTunnels
  .filter(({ encapsulation }) => encapsulation === 'vxlan')
  .map(({ device }) => device);

/** Wraps the tunnel interfaces as a driver. */
export function linksInRounds(
  links: Pick<Links, 'resync' | 'linkChanged' | 'addressChanged' | 'apply' | 'hasDue' | 'failures'>,
): Driver {
  return {
    resync: () => links.resync(),
    onEvent: (event) => {
      if (event.kind === 'link') return links.linkChanged(event.link, event.isGone);
      return event.kind === 'address' && links.addressChanged(event.address, event.isGone);
    },
    apply: (phase) => {
      if (phase === 'routes') links.apply();
      return undefined;
    },
    poll: () => links.hasDue,
    failures: () => links.failures(),
  };
}

/** Wraps the neighbours and forwarding entries as a driver. */
export function neighboursInRounds(
  neighbours: Pick<Neighbours, 'resync' | 'changed' | 'apply' | 'hasDue' | 'failures'>,
): Driver {
  return {
    resync: () => neighbours.resync(),
    onEvent: (event) => event.kind === 'neighbour' && neighbours.changed(event.entry, event.isGone),
    apply: (phase) => {
      if (phase === 'routes') neighbours.apply();
      return undefined;
    },
    poll: () => neighbours.hasDue,
    failures: () => neighbours.failures(),
  };
}
