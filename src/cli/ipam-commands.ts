import type { Command } from 'commander';
import type { View } from '../cache/view.ts';
import type { Draft } from '../datastore/writer.ts';
import { CalicoError } from '../errors/error.ts';
import { counted } from '../model/counted.ts';
import { printable } from '../errors/printable.ts';
import { parseAddress, type IpAddress } from '../ip/address.ts';
import { sharersOf } from '../ipam/docker/addresses.ts';
import { validClaims } from '../ipam/docker/claims.ts';
import {
  addressTaken,
  describeAllocation,
  findAllocation,
  userOf,
} from '../ipam/records/allocation.ts';
import { allocateInUse, maxRepairs, recountHandles } from '../ipam/maintenance/repair.ts';
import { poolOf } from '../ipam/pools/pools.ts';
import { release } from '../ipam/records/records.ts';
import {
  borrowedAddresses,
  checkIpam,
  poolUsage,
  type BlockUsage,
} from '../ipam/maintenance/report.ts';
import type { CliContext } from './context.ts';
import type { Store } from './store.ts';
import { formatCount, formatTable } from './table.ts';

/** `ipam show`, `ipam check` and `ipam release`. */
export function addIpamCommands(program: Command, context: CliContext): void {
  const ipam = program.command('ipam').description('inspect and repair IPAM');
  ipam
    .command('show')
    .description('show usage of IP pools')
    .option('--ip <address>', 'show the allocation of one address')
    .option('--show-blocks', 'include blocks')
    .option('--show-borrowed', 'show borrowed addresses')
    .action(async ({ ip, showBlocks, showBorrowed }: ShowOptions) => {
      const shown = await context.withStore(async ({ look, write }) => {
        if (ip !== undefined) {
          const address = parseAddress(ip);
          return write((draft) => allocationText(draft, address));
        }
        return look((view) =>
          showBorrowed === true ? borrowedText(view) : usageText(view, showBlocks === true),
        );
      });
      context.out(shown);
    });
  ipam
    .command('check')
    .description('check allocations against endpoints; exit status 1 if problems are found')
    .option('--fix', 'fix missing allocations and handle counts, then check again')
    .action(async ({ fix }: { readonly fix?: boolean }) => {
      const problems = await context.withStore(async (store) => {
        if (fix === true) context.out(await repair(store));
        return store.look(checkIpam);
      });
      for (const problem of problems) context.out(`${problem}\n`);
      const count = problems.length === 0 ? 'no problems' : counted(problems.length, 'problem');
      context.out(`${count} found\n`);
      if (problems.length > 0) context.setStatus(1);
    });
  ipam
    .command('release [address]')
    .description('release a leaked address')
    .option('--ip <address>', 'address to release (calicoctl syntax)')
    .action(async (argument: string | undefined, { ip }: { readonly ip?: string }) => {
      const text = argument ?? ip;
      if (text === undefined || (argument !== undefined && ip !== undefined)) {
        const why = 'needs one address: ipam release ADDRESS, or ipam release --ip ADDRESS';
        throw new CalicoError('cli/bad-argument', { what: 'ipam release', why });
      }
      const address = parseAddress(text);
      await context.withStore(({ write }) => write((draft) => releaseUnused(draft, address)));
      context.out(`${address} released\n`);
    });
}

/** Repairs what is possible without releasing an address. Returns a line for each repair. */
async function repair({ look, write }: Store): Promise<string> {
  const endpointIds = await look((view) => [...view.list('WorkloadEndpoint').keys()]);
  const allocated = await inPieces(() =>
    write((draft) => allocateInUse(draft, { endpointIds, now: new Date() })),
  );
  const recounted = await inPieces(() => write(recountHandles));
  return [
    ...allocated.map((address) => `${address} allocated to its endpoint\n`),
    ...recounted.map((handle) => `handle ${handle} count corrected\n`),
  ].join('');
}

/** Runs a plan with a limited number of repairs per run until none is left. */
async function inPieces<Repaired>(plan: () => Promise<readonly Repaired[]>): Promise<Repaired[]> {
  const all: Repaired[] = [];
  for (;;) {
    const repaired = await plan();
    all.push(...repaired);
    if (repaired.length < maxRepairs) return all;
  }
}

/** Returns the allocation of an address with its attributes. */
function allocationText(draft: Draft, address: IpAddress): string {
  const holder = findAllocation(draft, address)?.holder;
  if (holder !== undefined) {
    return [
      `${address} is in use by ${printable(describeAllocation(holder, userOf(draft, address)))}\n`,
      ...Object.entries(holder.secondary ?? {}).map(
        ([key, value]) => `  ${printable(`${key}: ${value}`)}\n`,
      ),
    ].join('');
  }
  const user = userOf(draft, address);
  if (user !== undefined) {
    return `${address} is in use by ${printable(describeAllocation({}, user))}, but not allocated\n`;
  }
  const pool = poolOf(draft, address);
  return pool === undefined
    ? `${address} is not in an IP pool\n`
    : `${address} is free, in IP pool ${pool.metadata.name}\n`;
}

function borrowedText(view: View): string {
  return formatTable(
    ['ip', 'borrowing node', 'block', 'block owner'],
    borrowedAddresses(view).map(({ address, borrower, block, owner }) => [
      address,
      borrower,
      block,
      owner ?? '',
    ]),
  );
}

function usageText(view: View, showBlocks: boolean): string {
  const line = (
    grouping: string,
    { cidr, total, used, reserved, free }: Omit<BlockUsage, 'host'>,
    host: string | undefined,
  ) => [
    grouping,
    cidr,
    host ?? '',
    formatCount(total, total),
    used.toString(),
    formatCount(reserved, total),
    formatCount(free, total),
  ];
  return formatTable(
    ['grouping', 'cidr', 'host', 'total', 'in use', 'reserved', 'free'],
    poolUsage(view).flatMap((pool) => [
      line('IP pool', pool, undefined),
      ...(showBlocks ? pool.blocks.map((block) => line('block', block, block.host)) : []),
    ]),
  );
}

/** Releases an address. Throws `ipam/address-not-held`, or an error that names the user of the address. */
function releaseUnused(draft: Draft, address: IpAddress): void {
  const found = findAllocation(draft, address);
  if (found === undefined) throw new CalicoError('ipam/address-not-held', { address });
  const { block, holder } = found;
  const isUsed =
    userOf(draft, address) !== undefined ||
    sharersOf(holder) !== undefined ||
    validClaims(draft, holder).length > 0;
  if (isUsed) throw addressTaken(draft, address, holder);
  release(draft, block, { address, holder });
}

interface ShowOptions {
  readonly ip?: string;
  readonly showBlocks?: boolean;
  readonly showBorrowed?: boolean;
}
