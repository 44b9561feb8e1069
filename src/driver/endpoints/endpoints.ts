import { KeyedMutex } from '../../async/keyed-mutex.ts';
import { hostInterfaceName } from '../../workload/interfaces.ts';
import type {
  CreateEndpointRequest,
  EndpointRequest,
  JoinRequest,
  JoinResponse,
} from '../plugin/messages.ts';
import { createEndpoint } from './create-endpoint.ts';
import type { EndpointsDeps } from './endpoints-deps.ts';
import { join } from './join.ts';
import { deleteEndpoint, removeEndpoint } from './remove-endpoint.ts';

/** Creates, joins, leaves and removes the endpoints of this host for Docker. All calls are idempotent. */
export interface Endpoints {
  /** Returns the MAC address if Docker did not give one. */
  create(request: CreateEndpointRequest, signal: AbortSignal): Promise<{ readonly mac?: string }>;
  /** Resolves when the endpoint's policy and route are programmed. */
  join(request: JoinRequest, signal: AbortSignal): Promise<JoinResponse>;
  leave(request: EndpointRequest): void;
  /**
   * Removes an endpoint for Docker: if Docker releases the addresses next, the endpoint is deleted with them, after
   * the response.
   */
  delete(request: EndpointRequest, signal: AbortSignal): Promise<void>;
  /** Removes an endpoint that Docker does not have. */
  remove(request: EndpointRequest, signal: AbortSignal): Promise<void>;
}

/** Implements Docker's calls; those about one endpoint run one after the other. */
export function createEndpoints(deps: EndpointsDeps): Endpoints {
  const oneAtATime = new KeyedMutex();
  const inTurn =
    <Request extends { readonly EndpointID: string }, Answer>(
      call: (deps: EndpointsDeps, request: Request, signal: AbortSignal) => Promise<Answer>,
    ) =>
    (request: Request, signal: AbortSignal): Promise<Answer> =>
      oneAtATime.run(request.EndpointID, () => call(deps, request, signal));
  return {
    create: inTurn(createEndpoint),
    join: inTurn(join),
    leave: ({ EndpointID }) => deps.links.removeVeth(hostInterfaceName(EndpointID)),
    delete: inTurn(deleteEndpoint),
    remove: inTurn(removeEndpoint),
  };
}
