import type { BriefEndpoint } from '../model/briefs.ts';
import { dockerNameOf, labelValueFor } from '../model/names.ts';
import type { NamedEndpoint } from './name-index.ts';

type Labels = Readonly<Record<string, string>>;

/** Labels of every endpoint of Docker, written by its host's driver. */
const networkLabel = 'com.docker.network.name';
const containerLabel = 'com.docker.container.name';

/** Returns the name of an endpoint's network; `undefined` if it is not known, or not Docker's. */
export function networkNameOf(labels: Labels): string | undefined {
  const label = labels[networkLabel];
  return label === undefined ? undefined : dockerNameOf(label);
}

/** Returns the network name as labels of its endpoints have it; a very long one is shortened there. */
export function nameInLabels(network: string): string {
  return dockerNameOf(labelValueFor(network));
}

/** Returns an endpoint as names refer to it; `undefined` if its network is not known. */
export function namedEndpoint({
  node,
  labels,
  aliases,
  nets,
}: BriefEndpoint): NamedEndpoint | undefined {
  const network = networkNameOf(labels);
  const container = labels[containerLabel];
  if (network === undefined) return undefined;
  const name = container === undefined ? undefined : dockerNameOf(container);
  return { node, network, name, aliases, nets };
}
