import { clusterPaths, readClusterFile } from '../cluster/cluster-file.ts';
import { runningCommand } from '../cluster/command-lock.ts';
import { interruption, sentenceOf, type Interruption } from '../cluster/interruption.ts';
import type { Settings } from '../config/settings.ts';
import { describe } from '../errors/error.ts';
import type { Check } from '../telemetry/status-report.ts';

/** Returns the check of `status`: a command for the cluster of this host that was interrupted, or runs. */
export function interruptionChecks(
  settings: Pick<Settings, 'datastoreFile' | 'controlSocket'>,
): readonly Check[] {
  const name = 'cluster command';
  let found: Interruption | undefined;
  try {
    const file = readClusterFile(clusterPaths(settings));
    found = file && interruption(settings, file);
  } catch (error) {
    return [{ name, ok: false, detail: describe(error) }];
  }
  if (found === undefined) return [];
  const running = runningCommand(settings.controlSocket);
  if (running !== undefined) return [{ name, ok: true, detail: `calico-cnm ${running} runs` }];
  const { command, reached, remedy } = found;
  const detail = `calico-cnm ${command} was interrupted (${reached})`;
  return [{ name, ok: false, detail, remedy: sentenceOf(remedy) }];
}
