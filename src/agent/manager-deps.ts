import type { Mirror } from '../cache/mirror.ts';
import type { HostPortReservations } from '../dataplane/host-ports/host-port-reservations.ts';
import type { Ipv6Forwarding } from '../dataplane/host-settings.ts';
import type { IpFamily } from '../ip/address.ts';
import type { HostRuleOptions } from '../ruleset/host-rules.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Kernel } from './kernel.ts';
import type { ResolveTrusted } from './trusted-resolver.ts';

/** Dependencies of the managers; each manager picks those that it needs. */
export interface ManagerDeps {
  readonly node: string;
  readonly families: readonly IpFamily[];
  readonly kernel: Kernel;
  readonly mirror: Pick<Mirror, 'get' | 'cachedInBrief' | 'unreadable' | 'allUnreadable'>;
  readonly hostPorts: Pick<HostPortReservations, 'reserve' | 'release' | 'undeliveredAt'>;
  readonly ipv6Forwarding: Pick<Ipv6Forwarding, 'isOwn' | 'switchOn' | 'keepAdvertisements'>;
  readonly statics: Pick<HostRuleOptions, 'endpointToHostAction'>;
  /** Whether connections are flushed when the rule that allowed them is removed. */
  readonly endsForbiddenFlows: boolean;
  /** Whether containers resolve names of containers on other hosts. */
  readonly resolvesNames: boolean;
  /** Resolves the domain names of network sets; by default at the servers of /etc/resolv.conf. */
  readonly resolveTrusted?: ResolveTrusted | undefined;
  /** Resolves when the kernel has the present desired state; rejects if it takes too long. */
  readonly programmed: () => Promise<void>;
  /** Where the rules of host endpoints are kept for the next boot; absent in tests. */
  readonly hostRulesFile?: string | undefined;
  /** Where the addresses of domain names are kept for the next start; absent in tests. */
  readonly domainAddressesFile?: string | undefined;
  readonly log: Logger;
}
