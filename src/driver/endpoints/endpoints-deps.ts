import type { Mirror } from '../../cache/mirror.ts';
import type { Draft, RetryingWriter } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import type { IpAddress } from '../../ip/address.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import type { Stamp } from '../../model/stamp.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { WorkloadDeps } from '../../workload/attach.ts';
import type { DockerApi } from '../docker/docker-api.ts';
import type { AddressPlans } from '../networks/address-plans.ts';
import { networkEntryId } from '../networks/networks.ts';
import type { LabelFilter } from './container-labels.ts';
import type { LocalEndpoints } from './local-endpoints.ts';

/** Dependencies of Docker's calls about endpoints. */
export interface EndpointsDeps extends WorkloadDeps {
  readonly node: string;
  readonly writer: RetryingWriter;
  readonly mirror: Mirror;
  readonly addresses: AddressPlans;
  readonly docker: DockerApi;
  readonly local: LocalEndpoints;
  readonly stamp: Stamp;
  readonly log: Logger;
  /** MTU of containers if their network has none, in bytes. */
  readonly defaultMtuBytes: (addresses: readonly IpAddress[]) => number;
  readonly interfacePrefix: string;
  readonly isTaken: LabelFilter;
}

/** Returns the network of a Docker request on this host. Throws `driver/unknown-network`. */
export function knownNetwork(
  draft: Draft,
  { node, networkId }: { readonly node: string; readonly networkId: string },
): DockerNetwork {
  const network = draft.get('DockerNetwork', networkEntryId(node, networkId));
  if (network === undefined)
    throw new CalicoError('driver/unknown-network', { network: networkId });
  return network;
}
