import type { Command } from 'commander';
import { parseAddress } from '../ip/address.ts';
import { describeHolder } from '../ipam/allocate.ts';
import { borrowedAddresses, checkIpam, holderOfAddress, poolUsage } from '../ipam/report.ts';
import type { CliContext } from './context.ts';
import { formatTable } from './table.ts';

/** `ipam show` and `ipam check`. */
export function addIpamCommands(program: Command, context: CliContext): void {
  const ipam = program.command('ipam').description('look at address management');
  ipam
    .command('show')
    .description('show how much of each pool is in use')
    .option('--ip <address>', 'who holds an address')
    .option('--show-blocks', 'each block of each pool')
    .option('--show-borrowed', "addresses from other hosts' blocks")
    .action(async ({ ip, showBlocks, showBorrowed }: ShowOptions) => {
      const shown = await context.withStore(async ({ mirror }) => {
        if (ip !== undefined) {
          const address = parseAddress(ip);
          const holder = holderOfAddress(mirror, address);
          if (holder === undefined) return `${address} is not in use\n`;
          const attributes = Object.entries(holder.secondary ?? {});
          return [
            `${address} is in use by ${describeHolder(holder)}\n`,
            ...attributes.map(([key, value]) => `  ${key}: ${value}\n`),
          ].join('');
        }
        if (showBorrowed === true) {
          return formatTable(
            ['ip', 'borrowing node', 'block', 'block owner'],
            borrowedAddresses(mirror).map(({ address, borrower, block, owner }) => [
              address,
              borrower,
              block,
              owner ?? '',
            ]),
          );
        }
        const usage = poolUsage(mirror);
        return formatTable(
          ['grouping', 'cidr', 'host', 'total', 'in use', 'free'],
          usage.flatMap((pool) => [
            ['IP pool', pool.cidr, '', pool.total, pool.used, pool.total - pool.used].map(String),
            ...(showBlocks === true
              ? pool.blocks.map(({ cidr, host, total, used }) =>
                  ['block', cidr, host ?? '', total, used, total - used].map(String),
                )
              : []),
          ]),
        );
      });
      context.out(shown);
    });
  ipam
    .command('check')
    .description('compare allocations, handles and endpoints; exit status 1 if they disagree')
    .action(async () => {
      const problems = await context.withStore(async ({ mirror }) => checkIpam(mirror));
      for (const problem of problems) context.out(`${problem}\n`);
      context.out(`${problems.length} problems found\n`);
      if (problems.length > 0) context.setStatus(1);
    });
}

interface ShowOptions {
  readonly ip?: string;
  readonly showBlocks?: boolean;
  readonly showBorrowed?: boolean;
}
