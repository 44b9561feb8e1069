import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, describe, test } from 'node:test';
import { ownLinks } from '../../src/agent/link-drivers.ts';
import { Links, linkCalls, type DesiredLink } from '../../src/dataplane/tunnels/links.ts';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { NetlinkSocket } from '../../src/dataplane/netlink/socket.ts';
import { parseAddress } from '../../src/ip/address.ts';
import { enterNewNamespace } from '../lab/namespace.ts';
import { whereIpipIs } from '../lab/other-kernel.ts';

const skip = whereIpipIs('test/system/ipip-link.test.ts', 120_000);
const namespace = enterNewNamespace();
const libc = loadLibc();
const socket = NetlinkSocket.open(libc, 0);
after(() => {
  socket.close();
  namespace[Symbol.dispose]();
});

function run(command: string): string {
  const [file = '', ...rest] = command.split(' ');
  return execFileSync(file, rest, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

const desired: DesiredLink = {
  name: 'tunl0',
  is: { kind: 'ipip' },
  mtuBytes: 1430,
  addresses: [parseAddress('10.65.0.1')],
};

function linksOf(): Links {
  return new Links(linkCalls(socket, libc), ownLinks);
}

test(
  'without IP-in-IP in the kernel, the failure says what to do',
  {
    skip: skip === false ? 'this kernel has it' : false,
  },
  () => {
    const links = linksOf();
    links.setDesired(desired);
    links.apply();
    assert.deepEqual(links.failures(), [
      {
        what: 'interface tunl0',
        why: 'this kernel has no IP-in-IP; load its module (modprobe ipip), or use vxlanMode instead of ipipMode in the IP pools',
      },
    ]);
  },
);

describe("the kernel's own tunl0, as ip sees it", { skip }, () => {
  const shown = () => run('ip address show dev tunl0');
  const isRight = () => {
    const text = shown();
    assert.match(text, /[<,]UP[,>].* mtu 1430 /);
    assert.match(text, /inet 10\.65\.0\.1\/32 scope global tunl0:calico$/m);
  };
  const apply = (links: Links) => {
    links.resync();
    links.apply();
    assert.deepEqual(links.failures(), []);
  };

  test('it is left as it is, until it is desired', () => {
    const before = shown();
    apply(linksOf());
    assert.equal(shown(), before);
    assert.doesNotMatch(before, /[<,]UP[,>]/);
  });

  test('it gets MTU, state and address, and nothing more is written', () => {
    const links = linksOf();
    links.setDesired(desired);
    apply(links);
    isRight();
    const { requests } = socket;
    links.apply();
    assert.equal(socket.requests, requests);
  });

  for (const change of [
    'ip link set tunl0 mtu 1300',
    'ip link set tunl0 down',
    'ip addr del 10.65.0.1/32 dev tunl0',
  ]) {
    test(`repaired after a restart: ${change}`, () => {
      run(change);
      const links = linksOf();
      links.setDesired(desired);
      apply(links);
      isRight();
    });
  }

  test('an address of others stays, and keeps it up; ours goes, known by its label', () => {
    run('ip addr add 203.0.113.7/32 dev tunl0');
    apply(linksOf());
    assert.match(shown(), /[<,]UP[,>]/);
    assert.match(shown(), /203\.0\.113\.7/);
    assert.doesNotMatch(shown(), /10\.65\.0\.1/);
    run('ip addr del 203.0.113.7/32 dev tunl0');
  });

  test('without addresses of others it is set down', () => {
    const links = linksOf();
    links.setDesired(desired);
    apply(links);
    isRight();
    links.deleteDesired('tunl0');
    apply(links);
    assert.doesNotMatch(shown(), /[<,]UP[,>]|inet /);
  });
});
