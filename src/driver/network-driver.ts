import type { Endpoints } from './endpoints/endpoints.ts';
import type { ExternalConnectivity } from './ports/external-connectivity.ts';
import {
  createEndpointRequest,
  createNetworkRequest,
  endpointRequest,
  joinRequest,
  networkRequest,
  optionsRequest,
  programRequest,
} from './plugin/messages.ts';
import type { Networks } from './networks/networks.ts';
import { method, methodWithoutBody, type Method } from './plugin/plugin-server.ts';

/** Docker notifies the driver when the default route of a running container moves. */
export interface GatewayChanges {
  /** The endpoint carries the default route of its container from now on, or no longer. */
  gatewayChanged(endpointId: string): void;
}

export interface NetworkDriverDeps {
  readonly networks: Networks;
  readonly endpoints: Endpoints;
  readonly gateways: GatewayChanges;
  readonly connectivity: ExternalConnectivity;
}

/**
 * The capabilities of the driver. Scope `local`: a network is created on each host, and the datastore joins those of
 * one name. `global` is for Swarm: such a network is created by a manager, and Docker accepts it from managed plugins
 * only.
 */
export function networkCapabilities(scope: 'local' | 'global'): Readonly<Record<string, Method>> {
  return {
    'NetworkDriver.GetCapabilities': methodWithoutBody(() => ({
      Scope: scope,
      ConnectivityScope: 'global',
      GwAllocChecker: true,
    })),
  };
}

/** The calls of Docker's network driver API, Docker 20.10 to 29. */
export function networkDriverMethods(deps: NetworkDriverDeps): Readonly<Record<string, Method>> {
  const { networks, endpoints, gateways, connectivity } = deps;
  return {
    'NetworkDriver.GwAllocCheck': method(optionsRequest, async ({ Options }) => {
      // An internal network has no gateway; every other one reports its next hop as gateway.
      const skip = Options['com.docker.network.internal'] === true;
      return { SkipIPv4: skip, SkipIPv6: skip };
    }),
    'NetworkDriver.CreateNetwork': method(createNetworkRequest, async (request, signal) => {
      await networks.create(request, signal);
      return {};
    }),
    'NetworkDriver.DeleteNetwork': method(networkRequest, async ({ NetworkID }, signal) => {
      await networks.remove(NetworkID, signal);
      return {};
    }),
    // Docker sends the returned options to the hosts on which tasks run, in CreateNetwork.
    'NetworkDriver.AllocateNetwork': method(createNetworkRequest, async (request, signal) => {
      await networks.allocate(request, signal);
      return { Options: request.Options };
    }),
    'NetworkDriver.FreeNetwork': method(networkRequest, async ({ NetworkID }, signal) => {
      await networks.free(NetworkID, signal);
      return {};
    }),
    'NetworkDriver.CreateEndpoint': method(createEndpointRequest, async (request, signal) => {
      const { mac } = await endpoints.create(request, signal);
      return { Interface: mac === undefined ? {} : { MacAddress: mac } };
    }),
    'NetworkDriver.DeleteEndpoint': method(endpointRequest, async (request, signal) => {
      await endpoints.delete(request, signal);
      return {};
    }),
    'NetworkDriver.EndpointOperInfo': method(endpointRequest, async () => ({ Value: {} })),
    'NetworkDriver.Join': method(joinRequest, (request, signal) => endpoints.join(request, signal)),
    'NetworkDriver.Leave': method(endpointRequest, async (request) => {
      endpoints.leave(request);
      return {};
    }),
    'NetworkDriver.ProgramExternalConnectivity': method(programRequest, async (request, signal) => {
      gateways.gatewayChanged(request.EndpointID);
      await connectivity.program(request, signal);
      return {};
    }),
    'NetworkDriver.RevokeExternalConnectivity': method(endpointRequest, async (request, signal) => {
      gateways.gatewayChanged(request.EndpointID);
      await connectivity.revoke(request, signal);
      return {};
    }),
    'NetworkDriver.DiscoverNew': methodWithoutBody(() => ({})),
    'NetworkDriver.DiscoverDelete': methodWithoutBody(() => ({})),
  };
}
