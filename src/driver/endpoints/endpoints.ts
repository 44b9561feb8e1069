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

/** The endpoints of this host, as Docker makes, joins, leaves and removes them. Every call may be repeated. */
export interface Endpoints {
  /** Answers the MAC address if Docker did not give one. */
  create(request: CreateEndpointRequest, signal: AbortSignal): Promise<{ readonly mac?: string }>;
  /** Answers when the kernel holds the endpoint's policy and route. */
  join(request: JoinRequest, signal: AbortSignal): Promise<JoinResponse>;
  leave(request: EndpointRequest): void;
  /** As Docker asks: where it gives the addresses back next, the endpoint goes with them, after the answer. */
  delete(request: EndpointRequest, signal: AbortSignal): Promise<void>;
  /** Of an endpoint that Docker does not have. */
  remove(request: EndpointRequest, signal: AbortSignal): Promise<void>;
}

/** Docker's calls, those about one endpoint one after the other. */
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
