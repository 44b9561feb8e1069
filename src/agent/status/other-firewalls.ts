import { readFileSync } from 'node:fs';
import { processIds, processName } from '../../dataplane/processes.ts';
import type { Check } from '../../telemetry/status-report.ts';

/**
 * Status checks of other firewalls on this host that apply to container traffic (docs/firewalls.md).
 */

const ufwConfiguration = '/etc/ufw/ufw.conf';
/** Locations used by plugin/install and by the Debian package. */
const firewalldZones = ['/etc/firewalld/zones/calico.xml', '/usr/lib/firewalld/zones/calico.xml'];

/** The files and processes of a host. */
export interface HostFirewalls {
  /** Returns the text of a file, `undefined` if it does not exist. */
  readonly read: (file: string) => string | undefined;
  /** Returns the names of all processes. */
  readonly processes: () => readonly string[];
}

/** Returns a check for each active firewall; firewalld without zone calico rejects all traffic from containers. */
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
