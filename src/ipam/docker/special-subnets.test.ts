import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCalicoError } from '../../errors/error.ts';
import { isUnspecified } from '../../ip/address.ts';
import { cidrFamily, parseCidr, splitCidr, type Cidr } from '../../ip/cidr.ts';
import { specialRanges } from '../../ip/special-ranges.ts';
import { newPoolProblem } from '../../model/kinds/ip-pool.ts';
import { createDefaultPool } from '../pools/default-pools.ts';
import { subnetPool } from '../pools/subnet-pools.ts';
import { nodes, signal, withIpam } from '../ipam-lab.fixture.ts';
import { createNetworkAddresses } from './network-addresses.ts';

const [node] = nodes;

/** Special-purpose ranges that containers may have addresses of. */
const allowed = (
  '10.0.0.0/8 100.64.0.0/10 172.16.0.0/12 192.168.0.0/16 240.0.0.0/4 192.0.2.0/24 ' +
  '198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 ' +
  '192.175.48.0/24 fc00::/7 fec0::/10 2001:2::/48 2001:db8::/32 3fff::/20 ' +
  '2002::/16 2620:4f:8000::/48'
).split(' ');
/** Special-purpose ranges that are rejected. */
const rejected = (
  '0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 224.0.0.0/4 255.255.255.255/32 192.0.0.0/24 ' +
  '192.0.0.0/29 192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/31 ::/8 ' +
  '::/128 ::1/128 ::/96 ::ffff:0.0.0.0/96 64:ff9b::/96 64:ff9b:1::/48 ' +
  '100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128 2001:1::2/128 ' +
  '2001:1::3/128 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 ' +
  '5f00::/16 fe80::/10 ff00::/8'
).split(' ');

test('every special-purpose range is either allowed or rejected', () => {
  assert.deepEqual(
    specialRanges.map(({ cidr }) => cidr).toSorted(),
    [...allowed, ...rejected].toSorted(),
  );
});

/** Subnets for ranges whose first subnet is in a smaller range, or means any subnet. */
const inOthersOnly: Readonly<Record<string, string>> = {
  '0.0.0.0/8': '0.1.0.0/16',
  '::/8': '1::/48',
  '2001::/23': '2001:100::/48',
};

/** Returns the range itself, or a subnet of it that a network may have if it is large. */
function subnetOf(cidr: string): Cidr {
  const other = inOthersOnly[cidr];
  if (other !== undefined) return parseCidr(other);
  const { address, prefixLength } = splitCidr(parseCidr(cidr));
  return parseCidr(`${address}/${Math.max(prefixLength, cidr.includes(':') ? 48 : 16)}`);
}

/** Returns the error of each way to create an IP pool of a subnet; `undefined` if it is accepted. */
async function answers(subnet: Cidr): Promise<readonly (string | undefined)[]> {
  const said = async (make: () => unknown): Promise<string | undefined> => {
    try {
      await make();
      return undefined;
    } catch (error) {
      assert.ok(isCalicoError(error), String(error));
      return error.message;
    }
  };
  const all: (string | undefined)[] = [];
  await withIpam(async (lab) => {
    const family = cidrFamily(subnet);
    const stamp = <T>(pool: T): T => pool;
    await lab.writer.write((draft) => draft.remove('IPPool', 'default-ipv4-ippool'), signal);
    const rehearse = (plan: Parameters<typeof lab.writer.write>[0]) => () =>
      lab.writer.write((draft) => {
        plan(draft);
        draft.remove('IPPool', subnetPool(subnet, {}).metadata.name);
        draft.remove('IPPool', `default-ipv${family}-ippool`);
      }, signal);
    const pool = { family, cidr: subnet, blockSize: 0, natOutgoing: true, nodeSelector: '' };
    const byDefault = { pool, used: [], random: Buffer.alloc(5), stamp };
    all.push(await said(rehearse((draft) => createDefaultPool(draft, byDefault))));
    const plans = createNetworkAddresses({ now: () => new Date(), stamp, usedRanges: () => [] });
    const chosen = { family, addressSpace: 'LocalDefault', cidr: subnet, gateway: undefined };
    const byDocker = { node, networkId: 'n', subnets: [{ ...chosen, auxiliary: {} }] };
    all.push(await said(rehearse((draft) => plans.adoptSubnets(draft, byDocker))));
    all.push(await said(() => lab.pool(node, subnet)));
    all.push(newPoolProblem(subnetPool(subnet, {})));
  });
  return all;
}

for (const cidr of allowed) {
  test(`containers may have addresses of ${cidr}`, async () => {
    assert.deepEqual(
      await answers(subnetOf(cidr)),
      [1, 2, 3, 4].map(() => undefined),
    );
  });
}

for (const cidr of rejected) {
  test(`no container can have an address of ${cidr}: rejected with the reason`, async () => {
    const { purpose, source } = specialRanges.find((one) => one.cidr === cidr) ?? assert.fail();
    const subnet = subnetOf(cidr);
    // Docker writes 0.0.0.0/24 and ::/64 for any subnet of that size.
    const isAny = isUnspecified(splitCidr(subnet).address);
    const all = await answers(subnet);
    for (const said of isAny ? all.toSpliced(2, 1) : all) {
      assert.ok(said?.includes(`${cidr} is ${purpose} (${source})`), said);
    }
  });
}

test('a network that contains a rejected range is rejected, and its neighbour is not', async () => {
  const [first] = await answers(parseCidr('192.0.0.0/16'));
  assert.match(first ?? '', /192\.0\.0\.0\/24 is reserved for IETF protocols/);
  for (const free of ['192.0.1.0/24', '126.0.0.0/8', '128.0.0.0/8', 'fe00::/16', '2001:200::/32']) {
    assert.deepEqual(
      await answers(parseCidr(free)),
      [1, 2, 3, 4].map(() => undefined),
    );
  }
});

test('a subnet of a pool created by another tool is rejected as well; an existing one is returned again', async () => {
  await withIpam(async (lab) => {
    const loopback = parseCidr('127.1.0.0/16');
    const put = (annotations: Record<string, string>) =>
      lab.writer.write(
        (draft) => draft.put('IPPool', 'loop', subnetPool(loopback, annotations)),
        signal,
      );
    await put({});
    await assert.rejects(
      lab.pool(node, loopback),
      (error) =>
        isCalicoError(error, 'ipam/special-subnet') &&
        error.message ===
          'subnet 127.1.0.0/16 is not usable for containers: 127.0.0.0/8 is loopback, which never leaves a host (RFC 1122); choose another, such as 10.99.0.0/16',
    );
    await put({ 'docker.projectcalico.org/made-for-subnet': loopback });
    assert.equal((await lab.pool(node, loopback))['Pool'], loopback);
  });
});
