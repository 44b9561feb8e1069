import type { EntryChange } from '../../cache/mirror.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';

/** Returns a network of this host with Docker's ID; `undefined` if the change concerns another host. */
export function localNetwork(
  node: string,
  { id, now }: EntryChange<'DockerNetwork'>,
): { readonly id: string; readonly now: DockerNetwork | undefined } | undefined {
  const [host, networkId] = id.split('/');
  if (host !== node || networkId === undefined) return undefined;
  return { id: networkId, now: now?.value.node === node ? now.value : undefined };
}
