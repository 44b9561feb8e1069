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
    'ufw is on: its rules decide on container to host, and its route rules hold beside Profiles; its defaults for routed traffic do not concern containers (docs/firewalls.md)',
};

function firewalld({ read }: HostFirewalls): Check {
  return firewalldZones.some((file) => read(file) !== undefined)
    ? {
        name: 'firewalld',
        ok: true,
        detail:
          'firewalld is on: its zone calico decides on container to host, and its policies calico-from and calico-to hold beside Profiles (docs/firewalls.md)',
      }
    : {
        name: 'firewalld',
        ok: false,
        detail: 'firewalld is on and has no zone calico: it rejects what containers send',
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
