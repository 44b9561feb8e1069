import type { IpAddress } from '../ip/address.ts';
import type { PortProtocol } from '../ip/port-protocol.ts';

/** What leads from one port of the host to a container. */
export interface PublishedPort {
  readonly protocol: PortProtocol;
  /** The host's address; the unspecified one stands for all addresses of the family. */
  readonly hostIp: IpAddress;
  readonly hostPort: number;
  readonly address: IpAddress;
  readonly port: number;
  /** Whether connections are let in where no rule of the container's Profiles decides. */
  readonly isAdmitted: boolean;
}
