import { readFileSync } from 'node:fs';
import { processIds, processName } from '../../dataplane/processes.ts';
import type { Check } from '../../telemetry/status-report.ts';

/**
 * What stands beside us on this host and has a say in containers' traffic, for status: so that neither it nor
 * we decide silently. Who decides what is in docs/firewalls.md.
 */

const ufwConfiguration = '/etc/ufw/ufw.conf';
/** Where plugin/install and where the Debian package put it. */
const firewalldZones = ['/etc/firewalld/zones/calico.xml', '/usr/lib/firewalld/zones/calico.xml'];

/** What of a host tells of them. */
export interface HostFirewalls {
  /** The text of a file; nothing if there is none. */
  readonly read: (file: string) => string | undefined;
  /** The names of its processes. */
  readonly processes: () => readonly string[];
}

/** One line for each firewall that is on; firewalld without our zone refuses all that containers send. */
export function otherFirewalls(host: HostFirewalls = thisHost): Check[] {
  const runsFirewalld = host.processes().includes('firewalld');
  return [...(isUfwOn(host) ? [ufw] : []), ...(runsFirewalld ? [firewalld(host)] : [])];
}

const ufw: Check = {
  name: 'ufw',
  ok: true,
  detail:
    'ufw is active: its INPUT rules apply to traffic from containers to this host, its route rules in addition to Profiles (docs/firewalls.md)',
};

function firewalld({ read }: HostFirewalls): Check {
  return firewalldZones.some((file) => read(file) !== undefined)
    ? {
        name: 'firewalld',
        ok: true,
        detail:
          'firewalld is active: zone calico applies to traffic from containers to this host, policies calico-from and calico-to in addition to Profiles (docs/firewalls.md)',
      }
    : {
        name: 'firewalld',
        ok: false,
        detail: 'firewalld is active but has no zone calico; it rejects traffic from containers',
        remedy: `Run plugin/install again, or copy plugin/host/etc/firewalld to /etc, then firewall-cmd --reload.`,
      };
}

function isUfwOn({ read }: HostFirewalls): boolean {
  return /^ENABLED=["']?yes/im.test(read(ufwConfiguration) ?? '');
}

const thisHost: HostFirewalls = {
  read: (file) => {
    try {
      return readFileSync(file, 'utf8');
    } catch {
      return undefined;
    }
  },
  processes: () => processIds().flatMap((pid) => processName(pid) ?? []),
};
