import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import { describe } from '../errors/error.ts';

/** A setting below `/proc/sys` that must have a value. */
export interface HostSetting {
  readonly file: string;
  readonly value: string;
  /** What does not work without it. */
  readonly purpose: string;
  /** Files of other settings that the kernel changes with it, as globs with one star for a whole name. */
  readonly changesToo: readonly string[];
}

/** Routing between containers and the host needs these. Source: Linux, networking/ip-sysctl. */
export const forwarding4: HostSetting = {
  file: '/proc/sys/net/ipv4/ip_forward',
  value: '1',
  purpose: 'IPv4 between containers',
  changesToo: [
    '/proc/sys/net/ipv4/conf/*/forwarding',
    // inet_forward_change of net/ipv4/devinet.c.
    '/proc/sys/net/ipv4/conf/all/accept_redirects',
  ],
};

export const forwarding6: HostSetting = {
  file: '/proc/sys/net/ipv6/conf/all/forwarding',
  value: '1',
  purpose: 'IPv6 between containers',
  changesToo: ['/proc/sys/net/ipv6/conf/*/forwarding'],
};

/** What settings were before they were changed, until the next start of the system, as which they go. */
const memoryFile = '/run/calico/host-settings.json';

const memorySchema = z.array(
  z.object({
    file: z.string(),
    set: z.string(),
    before: z.array(z.object({ file: z.string(), value: z.string() })),
  }),
);

/** Sets what is not set yet, and remembers what was; answers why it could not, or nothing. */
export function ensureHostSetting(setting: HostSetting): string | undefined {
  const { file, value, purpose } = setting;
  try {
    if (read(file) === value) return undefined;
    const files = [file, ...setting.changesToo.flatMap(expand)];
    const before = files.map((one) => ({ file: one, value: read(one) }));
    writeFileSync(file, value);
    remember([...remembered().filter((one) => one.file !== file), { file, set: value, before }]);
    return undefined;
  } catch (error) {
    return `${purpose} does not work: ${file} cannot be set to ${value} (${describe(error)})`;
  }
}

/**
 * Puts back what was before our changes, but for settings that others changed since, or that stay (by the
 * names that sysctl uses).
 */
export function restoreHostSettings(keep: ReadonlySet<string>): void {
  for (const { file, set, before } of remembered().toReversed()) {
    if (keep.has(sysctlName(file)) || read(file) !== set) continue;
    for (const one of before) {
      if (existsSync(one.file) && read(one.file) !== one.value) {
        writeFileSync(one.file, one.value);
      }
    }
  }
  rmSync(memoryFile, { force: true });
}

function remembered(): z.infer<typeof memorySchema> {
  if (!existsSync(memoryFile)) return [];
  return memorySchema.parse(JSON.parse(readFileSync(memoryFile, 'utf8')));
}

function remember(memory: z.infer<typeof memorySchema>): void {
  mkdirSync(dirname(memoryFile), { recursive: true });
  writeFileSync(memoryFile, `${JSON.stringify(memory)}\n`, { mode: 0o600 });
}

function expand(pattern: string): readonly string[] {
  const [folder = '', rest] = pattern.split('/*');
  if (rest === undefined) return [pattern];
  return readdirSync(folder).map((name) => `${folder}/${name}${rest}`);
}

function read(file: string): string {
  return readFileSync(file, 'utf8').trim();
}

function sysctlName(file: string): string {
  return file.replace('/proc/sys/', '').replaceAll('/', '.');
}
