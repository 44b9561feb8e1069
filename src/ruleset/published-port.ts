import type { IpAddress } from '../ip/address.ts';
import type { PortProtocol } from '../ip/port-protocol.ts';

/** A mapping from one host port to a container. */
export interface PublishedPort {
  readonly protocol: PortProtocol;
  /** The host's address; the unspecified one stands for all addresses of the family. */
  readonly hostIp: IpAddress;
  readonly hostPort: number;
  readonly address: IpAddress;
  readonly port: number;
  /** Whether connections are allowed if no rule of the container's Profiles matches. */
  readonly isAdmitted: boolean;
}
