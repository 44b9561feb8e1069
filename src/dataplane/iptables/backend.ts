import { readFileSync } from 'node:fs';
import { describe } from '../../errors/error.ts';
import type { ToolRunner } from '../process.ts';
import type { Backend } from './tables.ts';

/** Which iptables is used, and why, as text. */
export interface ChosenBackend {
  readonly backend: Backend;
  readonly why: string;
}

const debianPackage = 'iptables';

/**
 * Chooses between the two iptables: the one of the setting, else the one with Docker's chains, else the one of the
 * command `iptables`. Legacy tables that are not loaded are not read, because that would load them. Throws
 * `kernel/tool-missing`.
 */
export async function chooseBackend(
  runner: ToolRunner,
  setting: Backend | 'auto',
  signal: AbortSignal,
): Promise<ChosenBackend> {
  if (setting !== 'auto') return { backend: setting, why: 'set by CALICO_IPTABLES_BACKEND' };
  for (const backend of ['nft', 'legacy'] as const) {
    if (await hasDockerChains(runner, backend, signal)) {
      return { backend, why: 'used by Docker' };
    }
  }
  const { stdout } = await runner.run(['iptables', '--version'], { debianPackage }, signal);
  const backend = stdout.includes('nf_tables') ? 'nft' : 'legacy';
  return { backend, why: `the host's default (${stdout.trim()})` };
}

async function hasDockerChains(
  runner: ToolRunner,
  backend: Backend,
  signal: AbortSignal,
): Promise<boolean> {
  if (backend === 'legacy' && !isLegacyLoaded()) return false;
  try {
    const { stdout } = await runner.run([`iptables-${backend}-save`], { debianPackage }, signal);
    return stdout.includes('\n:DOCKER');
  } catch (error) {
    if (describe(error).includes('is not installed')) throw error;
    return false;
  }
}

/** Whether the kernel holds legacy tables of the filter kind. */
export function isLegacyLoaded(): boolean {
  try {
    return readFileSync('/proc/net/ip_tables_names', 'utf8').includes('filter');
  } catch {
    return false;
  }
}
