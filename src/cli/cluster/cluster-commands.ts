import { InvalidArgumentError, type Command } from 'commander';
import { memberAccess } from '../../cluster/admin-access.ts';
import { clusterPaths } from '../../cluster/cluster-file.ts';
import { joinPort } from '../../cluster/joining/protocol.ts';
import { fingerprint } from '../../cluster/pki/certificate.ts';
import { readClusterRecords } from '../../cluster/records.ts';
import { createToken, tokenTtlMs } from '../../cluster/tokens.ts';
import { openPatiently } from '../../datastore/open-datastore.ts';
import { addBackupCommands } from './backup-commands.ts';
import { addInitCommand } from './cluster-init.ts';
import { addMemberCommands } from './cluster-member-commands.ts';
import type { CliContext } from '../context.ts';
import { asOnlyCommand } from './only-command.ts';

/** Timeout for all datastore operations of one command. */
const longestMs = 60_000;

/** `cluster …`: an etcd that the program sets up itself. */
export function addClusterCommands(program: Command, context: CliContext): void {
  const cluster = program
    .command('cluster')
    .description('set up and manage an etcd of several hosts');
  addInitCommand(cluster, context, async () => {
    context.out(await tokenLines(context, tokenTtlMs / 60_000));
  });
  cluster
    .command('join <member> <token>')
    .description('join the cluster of a member (HOST:PORT), with the data of this host')
    .option('--client', 'never run a member of etcd on this host')
    .action(
      async (member: string, text: string, { client = false }: { readonly client?: boolean }) => {
        // It reads the interfaces of the host, by a native library that other commands do not need.
        const { join } = await import('./cluster-join.ts');
        await asOnlyCommand(context, 'cluster join', () =>
          join(context, { member, text, isClientOnly: client }),
        );
      },
    );
  addMemberCommands(cluster, context);
  addBackupCommands(cluster, context);
  const token = cluster.command('token').description('create join tokens');
  token
    .command('create')
    .description('create a token for one host, and print the command to run there')
    .option('--ttl <minutes>', 'minutes for which it is valid', minutes, tokenTtlMs / 60_000)
    .action(async ({ ttl }: { readonly ttl: number }) => {
      context.out(await tokenLines(context, ttl));
    });
}

/** Creates a token and returns the command for another host, with the time until which it works. */
async function tokenLines(context: CliContext, ttlMinutes: number): Promise<string> {
  const { file, ca, datastore: options } = memberAccess(clusterPaths(context.settings()));
  const datastore = await openPatiently(options);
  const signal = AbortSignal.timeout(longestMs);
  try {
    const { token, expires } = await createToken(datastore, {
      fingerprint: fingerprint(ca),
      now: new Date(),
      ttlMs: ttlMinutes * 60_000,
      signal,
    });
    const { hosts } = await readClusterRecords(datastore, signal);
    const address = hosts.find(({ node }) => node === file.node)?.record.address;
    return joinLines({ address: address ?? 'HOST', token, expires });
  } finally {
    await datastore.close();
  }
}

/** The command that joins a host, with the time until which it works. */
export function joinLines(join: {
  readonly address: string;
  readonly token: string;
  readonly expires: Date;
}): string {
  const { address, token, expires } = join;
  const host = address.includes(':') ? `[${address}]` : address;
  return `calico-cnm cluster join ${host}:${joinPort} ${token}\n(for one host, until ${expires.toISOString()})\n`;
}

function minutes(text: string): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number > 0 && number <= 7 * 24 * 60) return number;
  throw new InvalidArgumentError('It is a number of minutes from 1 to 10080.');
}
