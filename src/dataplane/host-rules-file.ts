import { dirname, join } from 'node:path';
import { z } from 'zod';
import { readIfPresent } from '../async/replace-file.ts';
import { CalicoError, describe } from '../errors/error.ts';
import type { IpFamily } from '../ip/address.ts';
import type { IpsetSpec } from '../render/iptables/ipset.ts';
import type { TableRules } from '../render/iptables/host-rules.ts';
import type { SetContent } from './address-sets.ts';
import { renderChain } from './iptables/hash.ts';
import { isOwn, scriptLines } from './iptables/script.ts';
import type { Backend } from './iptables/tables.ts';
import type { Ipset } from './netlink/ipset.ts';
import { isRefusal } from './netlink/socket.ts';
import type { ToolRunner } from './process.ts';

/**
 * The rules of host endpoints as they were last programmed, in a file: a host that boots writes them to the kernel
 * before its network is up, long before the daemon has read the datastore.
 */
const savedSet = z.object({
  spec: z.object({
    name: z.string(),
    family: z.union([z.literal(4), z.literal(6)]),
    type: z.enum(['net', 'address,port', 'net,interface']),
    countsPackets: z.exactOptional(z.boolean()),
    maxElements: z.exactOptional(z.int()),
  }),
  members: z.array(z.string()),
});

const savedRules = z.object({
  backend: z.enum(['nft', 'legacy']),
  sets: z.array(savedSet),
  /** Input of iptables-restore, by family. */
  scripts: z.array(z.object({ family: z.union([z.literal(4), z.literal(6)]), input: z.string() })),
});

export type SavedHostRules = z.infer<typeof savedRules>;

/** Returns the rules to save, with the sets that they use. `contentOf` returns a set by its name. */
export function savedHostRules(
  backend: Backend,
  tables: ReadonlyMap<IpFamily, readonly TableRules[]>,
  contentOf: (name: string) => SetContent | undefined,
): SavedHostRules {
  const scripts = [...tables].map(([family, ofFamily]) => ({
    family,
    input: ofFamily.map(scriptOf).join(''),
  }));
  const names = new Set(
    scripts.flatMap(({ input }) =>
      [...input.matchAll(/--match-set (\S+)/g)].map(([, name]) => name),
    ),
  );
  const sets = [...names].flatMap((name = '') => {
    const content = contentOf(name);
    return content === undefined
      ? []
      : [{ spec: plainSpec(content.spec), members: [...content.members] }];
  });
  return { backend, sets, scripts };
}

function plainSpec({ name, family, type, countsPackets, maxElements }: IpsetSpec) {
  return {
    name,
    family,
    type,
    ...(countsPackets === undefined ? {} : { countsPackets }),
    ...(maxElements === undefined ? {} : { maxElements }),
  };
}

function scriptOf({ table, chains, hooks }: TableRules): string {
  const lines = scriptLines({
    filled: chains.map(({ name, rules }) => ({
      name,
      rules: renderChain(rules, name),
      ifRefused: undefined,
      isNew: true,
    })),
    hooked: hooks.flatMap(({ chain, inserted }) =>
      renderChain(inserted, chain).map(({ text }, index) => `-I ${chain} ${index + 1} ${text}`),
    ),
    removed: [],
  });
  return `*${table}\n${lines.join('\n')}\nCOMMIT\n`;
}

/** Returns the path of the file, beside the snapshot of the datastore. */
export function hostRulesFile({ snapshotFile }: { readonly snapshotFile: string }): string {
  return join(dirname(snapshotFile), 'host-rules.json');
}

/** Reads the saved rules; `undefined` if there are none. Throws `kernel/bad-host-rules`. */
export function readHostRules(file: string): SavedHostRules | undefined {
  const text = readIfPresent(file);
  if (text === undefined) return undefined;
  try {
    return savedRules.parse(JSON.parse(text));
  } catch (error) {
    const why = describe(error).split('\n', 1)[0] ?? '';
    throw new CalicoError('kernel/bad-host-rules', { file, why }, { cause: error });
  }
}

/**
 * Writes saved rules to the kernel; does nothing in a family that has chains of ours, because the daemon was here first.
 * Throws `kernel/refused`, `kernel/tool-failed` or `kernel/tool-missing`.
 */
export async function restoreHostRules(
  { backend, sets, scripts }: SavedHostRules,
  {
    ipset,
    runner,
  }: { readonly ipset: Pick<Ipset, 'create' | 'add'>; readonly runner: Pick<ToolRunner, 'run'> },
  signal: AbortSignal,
): Promise<void> {
  const debianPackage = 'iptables';
  for (const { family, input } of scripts) {
    const tool = `${family === 4 ? 'iptables' : 'ip6tables'}-${backend}`;
    const { stdout } = await runner.run([`${tool}-save`], { debianPackage }, signal);
    const chains = [...stdout.matchAll(/^:(\S+)/gm)].map(([, name = '']) => name);
    if (chains.some(isOwn)) continue;
    for (const { spec, members } of sets.filter((one) => one.spec.family === family)) {
      try {
        ipset.create(spec);
      } catch (error) {
        if (!isRefusal(error, 'EEXIST')) throw error;
      }
      if (members.length > 0) ipset.add(spec, members);
    }
    await runner.run(
      [`${tool}-restore`, '--noflush', '--wait', '10'],
      { input, debianPackage },
      signal,
    );
  }
}
