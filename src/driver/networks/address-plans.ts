import type { Progress } from '../../datastore/steps.ts';
import type { Draft } from '../../datastore/writer.ts';
import type { IpAddress, IpFamily } from '../../ip/address.ts';
import type { Cidr } from '../../ip/cidr.ts';
import type { DockerNetwork, NetworkSubnet } from '../../model/kinds/docker-network.ts';

/** One subnet as CreateNetwork tells it. */
export interface RequestedSubnet {
  readonly family: IpFamily;
  /** Who gave the subnet: the name of an IPAM driver's address space. */
  readonly addressSpace: string | undefined;
  readonly cidr: Cidr;
  readonly gateway: IpAddress | undefined;
  readonly auxiliary: Readonly<Record<string, IpAddress>>;
}

/** What a network's subnets became. */
export interface AdoptedSubnets {
  readonly ipam: DockerNetwork['ipam'];
  readonly subnets: readonly NetworkSubnet[];
  readonly nextHop4: IpAddress | undefined;
  readonly nextHop6: IpAddress | undefined;
}

export interface EndpointAddresses {
  readonly node: string;
  readonly network: DockerNetwork;
  readonly endpointId: string;
  readonly addresses: readonly IpAddress[];
}

/** What the network driver needs of address management: plans that change a draft, or throw `ipam/…`. */
export interface AddressPlans {
  /** At CreateNetwork: ties the subnets to the pools that were asked for, or makes Docker's own subnets pools. */
  adoptSubnets(
    draft: Draft,
    request: {
      readonly node: string;
      readonly networkId: string;
      readonly subnets: readonly RequestedSubnet[];
    },
  ): AdoptedSubnets;

  /** At DeleteNetwork: what `adoptSubnets` made. */
  dropSubnets(draft: Draft, network: DockerNetwork): Progress;

  /** At AllocateNetwork: the pools that Swarm's manager asked for are from now on this network's, on all hosts. */
  allocateNetwork(
    draft: Draft,
    request: {
      readonly node: string;
      readonly networkId: string;
      readonly subnets: readonly RequestedSubnet[];
    },
  ): void;

  /** At FreeNetwork: what Swarm's managers have had for the network. */
  freeNetwork(draft: Draft, networkId: string): Progress;

  /** At CreateEndpoint: the addresses are from now on this endpoint's. */
  bindEndpoint(draft: Draft, endpoint: EndpointAddresses): void;

  /** At DeleteEndpoint: frees the addresses that Docker's own IPAM handed out; others wait for ReleaseAddress. */
  releaseEndpoint(draft: Draft, endpoint: EndpointAddresses): void;

  /**
   * Gives an endpoint addresses beside Docker's; those that it has stay. Throws `ipam/address-taken`, which names the
   * holder, `ipam/address-outside`, `ipam/extra-address-needs-ipam`.
   */
  claimExtra(draft: Draft, endpoint: EndpointAddresses): void;

  /** Frees what `claimExtra` gave. */
  releaseExtra(draft: Draft, endpoint: Omit<EndpointAddresses, 'network'>): void;

  /** When an endpoint of the plugin of 2019 is gone: frees its addresses, which only the endpoint told from leaks. */
  releaseAdopted(draft: Draft, addresses: readonly IpAddress[]): void;
}
