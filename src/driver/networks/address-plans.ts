import type { Progress } from '../../datastore/steps.ts';
import type { Draft } from '../../datastore/writer.ts';
import type { IpAddress, IpFamily } from '../../ip/address.ts';
import type { Cidr } from '../../ip/cidr.ts';
import type { DockerNetwork, NetworkSubnet } from '../../model/kinds/docker-network.ts';

/** One subnet of a CreateNetwork request. */
export interface RequestedSubnet {
  readonly family: IpFamily;
  /** The IPAM driver's address space that the subnet comes from. */
  readonly addressSpace: string | undefined;
  readonly cidr: Cidr;
  readonly gateway: IpAddress | undefined;
  readonly auxiliary: Readonly<Record<string, IpAddress>>;
}

/** The result for a network's subnets. */
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

/** The plans of IPAM that the network driver needs; they change a draft, or throw `ipam/…`. */
export interface AddressPlans {
  /** At CreateNetwork: binds the subnets to the requested pools, or creates pools for Docker's own subnets. */
  adoptSubnets(
    draft: Draft,
    request: {
      readonly node: string;
      readonly networkId: string;
      readonly subnets: readonly RequestedSubnet[];
    },
  ): AdoptedSubnets;

  /** At DeleteNetwork: removes what `adoptSubnets` created. */
  dropSubnets(draft: Draft, network: DockerNetwork): Progress;

  /** At AllocateNetwork: assigns the pools that Swarm's manager requested to this network, on all hosts. */
  allocateNetwork(
    draft: Draft,
    request: {
      readonly node: string;
      readonly networkId: string;
      readonly subnets: readonly RequestedSubnet[];
    },
  ): void;

  /** At FreeNetwork: releases what this Swarm manager has allocated for the network. */
  freeNetwork(draft: Draft, node: string, networkId: string): Progress;

  /** At CreateEndpoint: assigns the addresses to this endpoint. */
  bindEndpoint(draft: Draft, endpoint: EndpointAddresses): void;

  /** At DeleteEndpoint: releases the addresses allocated by Docker's own IPAM; others wait for ReleaseAddress. */
  releaseEndpoint(draft: Draft, endpoint: EndpointAddresses): void;

  /**
   * Gives an endpoint addresses in addition to Docker's; present ones stay. Throws `ipam/address-taken`, which names
   * the owner, `ipam/address-outside`, `ipam/extra-address-needs-ipam`.
   */
  claimExtra(draft: Draft, endpoint: EndpointAddresses): void;

  /**
   * Reserves prefixes behind an endpoint. Throws `ipam/special-subnet`, `ipam/prefix-in-use`,
   * `ipam/extra-address-needs-ipam`.
   */
  claimPrefixes(
    draft: Draft,
    request: Omit<EndpointAddresses, 'addresses'> & { readonly prefixes: readonly Cidr[] },
  ): void;

  /** Releases the prefixes of `claimPrefixes` after their endpoint was removed in the draft. */
  releasePrefixes(draft: Draft, prefixes: readonly Cidr[]): void;

  /** Releases the addresses of `claimExtra`. */
  releaseExtra(draft: Draft, endpoint: Omit<EndpointAddresses, 'network'>): void;

  /**
   * When an endpoint of libnetwork-plugin was removed: releases its addresses, which only the endpoint distinguished
   * from leaks.
   */
  releaseAdopted(draft: Draft, addresses: readonly IpAddress[]): void;
}
