import type { Mirror } from '../cache/mirror.ts';
import type { HostPortReservations } from '../dataplane/host-ports/host-port-reservations.ts';
import type { Ipv6Forwarding } from '../dataplane/host-settings.ts';
import type { IpFamily } from '../ip/address.ts';
import type { HostRuleOptions } from '../ruleset/host-rules.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Kernel } from './kernel.ts';

/** Dependencies of the managers; each manager picks those that it needs. */
export interface ManagerDeps {
  readonly node: string;
  readonly families: readonly IpFamily[];
  readonly kernel: Kernel;
  readonly mirror: Pick<Mirror, 'cachedInBrief'>;
  readonly hostPorts: Pick<HostPortReservations, 'reserve' | 'release' | 'undeliveredAt'>;
  readonly ipv6Forwarding: Pick<Ipv6Forwarding, 'isOwn' | 'switchOn' | 'keepAdvertisements'>;
  readonly statics: Pick<HostRuleOptions, 'endpointToHostAction'>;
  /** Whether connections are flushed when the rule that allowed them is removed. */
  readonly endsForbiddenFlows: boolean;
  /** Whether containers resolve names of containers on other hosts. */
  readonly resolvesNames: boolean;
  readonly log: Logger;
}
