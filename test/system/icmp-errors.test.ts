import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import type { Backend } from '../../src/dataplane/iptables/tables.ts';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { inNetworkNamespace } from '../../src/dataplane/netlink/network-namespace.ts';
import { parseAddress, type IpFamily } from '../../src/ip/address.ts';
import { hostCidr, parseCidr } from '../../src/ip/cidr.ts';
import type { PolicyRule } from '../../src/model/policy-rule.ts';
import { makeContainerNamespace } from '../lab/container-namespace.ts';
import { KernelAgent, pool, profile } from '../lab/kernel-agent.ts';
import { eventually } from '../lab/poll.ts';
import { enterNewNamespace } from '../lab/namespace.ts';
import { openDatagrams, sendDatagram, sendRaw, tooBig, type TooBig } from '../lab/raw-packets.ts';

const namespace = enterNewNamespace();
const libc = loadLibc();
after(() => namespace[Symbol.dispose]());

const sh = (script: string) => execFileSync('sh', ['-ec', script], { encoding: 'utf8' });
const netns = (name: string) => `${namespace.name}-${name}`;
const inside = <T>(name: string, what: () => T): T =>
  inNetworkNamespace(libc, `/run/netns/${netns(name)}`, what);

/** The containers; a client that lets nobody in, its peer, one of a network that may not speak to it. */
const containers = {
  client: { number: 1, profiles: ['closed'] },
  peer: { number: 2, profiles: ['open'] },
  stranger: { number: 3, profiles: ['open'] },
} as const;
type Name = keyof typeof containers;
const names: readonly Name[] = ['client', 'peer', 'stranger'];

const addresses = {
  4: (name: Name) => parseAddress(`10.65.0.${containers[name].number}`),
  6: (name: Name) => parseAddress(`fd65::${containers[name].number}`),
} as const;
const far = { 4: parseAddress('198.51.100.1'), 6: parseAddress('2001:db8:100::1') } as const;
/** A path MTU of the kernel's least for IPv4; IPv6 has 1280 at least everywhere. */
const planted = { 4: 552, 6: 1300 } as const;
const narrow = 1290;
const ports = { client: 5000, peer: 5001 } as const;

for (const backend of ['nft', 'legacy'] as const) {
  describe(`ICMP errors, iptables-${backend}`, { timeout: 600_000 }, () => obeysPolicy(backend));
}

function obeysPolicy(backend: Backend): void {
  let lab: KernelAgent;
  before(async () => {
    lab = await KernelAgent.start(backend);
    await lab.write((draft) => {
      draft.put('IPPool', 'v4', pool('v4', parseCidr('10.65.0.0/16'), false));
      draft.put('IPPool', 'v6', pool('v6', parseCidr('fd65::/48'), false));
      draft.put('Profile', 'open', profile('open', [{ action: 'Allow' }]));
      draft.put('Profile', 'closed', profile('closed', []));
    });
    sh(`sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
        ip address replace 203.0.113.9/32 dev lo
        ip -6 address replace 2001:db8:9::9/128 dev lo nodad`);
    for (const name of names) await container(name);
    router();
  });
  after(async () => {
    await lab[Symbol.asyncDispose]();
    for (const name of [...names, 'router']) sh(`ip netns del ${netns(name)}`);
    sh(`iptables-${backend} -F; ip6tables-${backend} -F; iptables-${backend} -t mangle -F`);
  });

  for (const family of [4, 6] as const) {
    test(`a path is found that is narrow behind a router, IPv${family}`, async () => {
      const fd = inside('client', () => openDatagrams(libc, end(family, 'client')));
      const isFound = () => {
        sendDatagram(libc, fd, { address: far[family], port: 9 }, Buffer.alloc(1400));
        return pathMtu(far[family]) === narrow;
      };
      assert.ok(await eventually(isFound), `path MTU ${pathMtu(far[family])}`);
      libc.close(fd);
    });

    test(`a container that the rules do not let in plants no path MTU, and a rule lets it, IPv${family}`, async () => {
      using flow = new Flow(family);
      const forged: TooBig = {
        from: addresses[family]('stranger'),
        to: addresses[family]('client'),
        flow: { source: end(family, 'client'), destination: end(family, 'peer') },
        mtu: planted[family],
      };
      // The flow of one who came by a published port is no way in for others.
      const mark = `ip${family === 6 ? '6' : ''}tables-${backend} -t mangle -I PREROUTING -p udp -j CONNMARK --set-xmark 0x200000/0x200000`;
      sh(mark);
      flow.send();
      const before = dropped(family);
      flow.plant('stranger', forged);
      assert.ok(await eventually(() => dropped(family) > before), 'it is dropped by policy');
      if (family === 6) {
        flow.plant('stranger', { ...forged, decoy: forged.from });
        assert.ok(await eventually(() => dropped(family) > before + 1), 'with a decoy, too');
      }
      sh(mark.replace('-I PREROUTING', '-D PREROUTING'));
      assert.equal(pathMtu(addresses[family]('peer')), 1500);
      await setIngress([
        {
          action: 'Allow',
          protocol: family === 4 ? 'ICMP' : 'ICMPv6',
          source: { nets: [hostCidr(forged.from)] },
        },
      ]);
      flow.plant('stranger', forged);
      const isPlanted = () => pathMtu(addresses[family]('peer')) === planted[family];
      assert.ok(await eventually(isPlanted), 'what policy allows arrives');
      await setIngress([]);
    });

    test(`the other end of a flow may tell of errors, whatever the rules say, IPv${family}`, async () => {
      using flow = new Flow(family);
      flow.send();
      flow.plant('peer', {
        from: addresses[family]('peer'),
        to: addresses[family]('client'),
        flow: { source: end(family, 'client'), destination: end(family, 'peer') },
        mtu: planted[family],
      });
      const isTold = () => pathMtu(addresses[family]('peer')) === planted[family];
      assert.ok(await eventually(isTold), `path MTU ${pathMtu(addresses[family]('peer'))}`);
    });
  }

  async function setIngress(ingress: readonly PolicyRule[]): Promise<void> {
    await lab.write((draft) => draft.put('Profile', 'closed', profile('closed', ingress)));
    await lab.settled();
  }

  /** Packets to containers that no rule allows. */
  function dropped(family: IpFamily): number {
    return lab.sockets.ipset
      .members(`cali${family}0d:ingress`, family)
      .reduce((sum, { packets }) => sum + Number(packets), 0);
  }

  /** What Join and Docker do. */
  async function container(name: Name): Promise<void> {
    const interfaceName = `cali${name}`;
    const networks = [4, 6].map((family) => hostCidr(addresses[family === 4 ? 4 : 6](name)));
    const profiles = [...containers[name].profiles];
    await lab.join({ name, networks, profiles, interfaceName });
    makeContainerNamespace({
      name,
      netns: netns(name),
      interfaceName,
      address4: addresses[4](name),
      address6: addresses[6](name),
    });
  }
}

/** A router with a narrow link behind it. */
function router(): void {
  sh(`ip netns add ${netns('router')}
      in="ip -n ${netns('router')}"
      ip link add uplink type veth peer name eth0 netns ${netns('router')}
      ip address add 203.0.113.2/24 dev uplink
      ip -6 address add 2001:db8:113::2/64 dev uplink nodad
      ip link set uplink up
      $in link set lo up
      $in address add 203.0.113.1/24 dev eth0
      $in -6 address add 2001:db8:113::1/64 dev eth0 nodad
      $in link set eth0 up
      $in link add narrow type veth peer name end
      $in link set narrow mtu ${narrow} up
      $in link set end mtu ${narrow} up
      $in route add ${far[4]} dev narrow
      $in -6 route add ${far[6]} dev narrow
      $in route add 10.65.0.0/16 via 203.0.113.2
      $in -6 route add fd65::/48 via 2001:db8:113::2
      ip netns exec ${netns('router')} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
      ip route add ${far[4]} via 203.0.113.1
      ip -6 route add ${far[6]} via 2001:db8:113::1`);
}

/** A flow of datagrams from the client to its peer. */
class Flow implements Disposable {
  readonly #family: IpFamily;
  readonly #client: number;
  readonly #peer: number;

  constructor(family: IpFamily) {
    this.#family = family;
    sh(`for t in 4 6; do ip -$t -n ${netns('client')} route flush cache; done`);
    this.#client = inside('client', () => openDatagrams(libc, end(family, 'client')));
    this.#peer = inside('peer', () => openDatagrams(libc, end(family, 'peer')));
  }

  send(): void {
    assert.ok(sendDatagram(libc, this.#client, end(this.#family, 'peer')));
  }

  plant(by: Name, error: TooBig): void {
    inside(by, () => sendRaw(libc, tooBig(error), error.to));
  }

  [Symbol.dispose](): void {
    libc.close(this.#client);
    libc.close(this.#peer);
  }
}

function end(family: IpFamily, name: 'client' | 'peer') {
  return { address: addresses[family](name), port: ports[name] };
}

/** What the client takes for the path MTU to an address. */
function pathMtu(to: string): number {
  const shown = sh(`ip -n ${netns('client')} route get ${to}`);
  return Number(/ mtu (\d+)/.exec(shown)?.[1] ?? 1500);
}
