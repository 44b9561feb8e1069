import { z } from 'zod';

/**
 * The messages of Docker's remote network driver API, as Docker 20.10 to 29 sends them. Unknown fields are tolerated;
 * Go's `null` means an empty map or list, and `""` an absent address. Source: moby, libnetwork/drivers/remote/api.
 */

/** Treats Go's null as absent. */
function nullable<S extends z.ZodType>(schema: S) {
  return z
    .union([schema, z.null()])
    .optional()
    .transform((value) => value ?? undefined);
}

const text = nullable(z.string()).transform((value) => (value === '' ? undefined : value));
const options = nullable(z.record(z.string(), z.unknown())).transform((value) => value ?? {});

const ipamData = z.object({
  AddressSpace: text,
  Pool: z.string(),
  Gateway: text,
  AuxAddresses: nullable(z.record(z.string(), z.string())).transform((value) => value ?? {}),
});

const ipamDataList = nullable(z.array(ipamData)).transform((value) => value ?? []);

/**
 * IDs become parts of keys, file names, interface names and paths of Docker's API, so nothing else is accepted as one.
 * Docker sends 64 hexadecimal digits, Swarm 25 letters and digits for its networks.
 */
const networkId = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, 'must be an ID of letters and digits');

export const createNetworkRequest = z.object({
  NetworkID: networkId,
  Options: options,
  IPv4Data: ipamDataList,
  IPv6Data: ipamDataList,
});

export type CreateNetworkRequest = z.infer<typeof createNetworkRequest>;

export const networkRequest = z.object({ NetworkID: networkId });

export type NetworkRequest = z.infer<typeof networkRequest>;

const endpointId = z
  .string()
  .regex(/^[A-Za-z0-9]{11,128}$/, 'must be an endpoint ID of at least 11 letters and digits');

/** The file of a network namespace, `/var/run/docker/netns/8c1f0aa2b3c4`: an absolute path without detours. */
const sandboxKey = z
  .string()
  .max(4095, 'is too long')
  .regex(/^(\/(?!\.\.?(\/|$))[^/\p{Cc}]+)+$/u, 'must be an absolute path');

export const createEndpointRequest = z.object({
  NetworkID: networkId,
  EndpointID: endpointId,
  Interface: nullable(z.object({ Address: text, AddressIPv6: text, MacAddress: text })).transform(
    (value) => value ?? { Address: undefined, AddressIPv6: undefined, MacAddress: undefined },
  ),
  Options: options,
});

export type CreateEndpointRequest = z.infer<typeof createEndpointRequest>;

export const endpointRequest = z.object({ NetworkID: networkId, EndpointID: endpointId });

export type EndpointRequest = z.infer<typeof endpointRequest>;

export const programRequest = z.object({
  NetworkID: networkId,
  EndpointID: endpointId,
  Options: options,
});

export type ProgramRequest = z.infer<typeof programRequest>;

export const joinRequest = z.object({
  NetworkID: networkId,
  EndpointID: endpointId,
  SandboxKey: sandboxKey,
  Options: options,
});

export type JoinRequest = z.infer<typeof joinRequest>;

export const optionsRequest = z.object({ Options: options });

export type OptionsRequest = z.infer<typeof optionsRequest>;

/** The response to Join. RouteType 0 uses a next hop, 1 is on-link. */
export interface JoinResponse {
  readonly InterfaceName: { readonly SrcName: string; readonly DstPrefix: string };
  readonly Gateway?: string;
  readonly GatewayIPv6?: string;
  readonly StaticRoutes: readonly StaticRoute[];
  readonly DisableGatewayService: boolean;
}

export interface StaticRoute {
  readonly Destination: string;
  readonly RouteType: 0 | 1;
  readonly NextHop: string;
}
