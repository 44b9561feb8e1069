import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { z } from 'zod';
import type { ContainerEngine, ContainerSpec, NetworkSpec } from './container-engine.ts';
import type { Machine } from '../machine.ts';
import type { Peer } from './peer.ts';
import { callPlugin } from '../plugin-client.ts';

interface Pool {
  readonly id: string;
  readonly subnet: string;
  readonly gateway: string;
}

interface Network {
  readonly id: string;
  readonly name: string;
  readonly pools: readonly Pool[];
}

interface Endpoint {
  readonly id: string;
  readonly name: string;
  readonly network: Network;
  readonly labels: Readonly<Record<string, string>>;
  readonly sandbox: string;
  readonly addresses: readonly string[];
}

const poolAnswer = z.object({
  PoolID: z.string(),
  Pool: z.string(),
  Data: z.record(z.string(), z.string()).nullish(),
});
const addressAnswer = z.object({ Address: z.string() });
const endpointAnswer = z.object({ Interface: z.object({ MacAddress: z.string() }) });
const joinAnswer = z.object({
  InterfaceName: z.object({ SrcName: z.string() }),
  Gateway: z.string().optional(),
  GatewayIPv6: z.string().optional(),
  StaticRoutes: z.array(
    z.object({ Destination: z.string(), RouteType: z.number(), NextHop: z.string() }),
  ),
});

const pluginSocket = '/run/docker/plugins/calico.sock';
const addressSpace = 'CalicoAddressSpace';
const gatewayKey = 'com.docker.network.gateway';

/**
 * Stands in for Docker on a host without it, for tests of what is between hosts: it makes dockerd's calls to the
 * plugin, sets up network namespaces as the plugin answers, and answers calico-cnm's requests to Docker. A container is
 * a network namespace with a web server.
 */
export class NamespaceEngine implements ContainerEngine, AsyncDisposable {
  readonly #machine: Machine;
  readonly #server: Server;
  readonly #networks = new Map<string, Network>();
  readonly #endpoints = new Map<string, Endpoint>();

  private constructor(machine: Machine) {
    this.#machine = machine;
    this.#server = createServer((request, response) => this.#answer(request, response));
  }

  static async start(machine: Machine): Promise<NamespaceEngine> {
    const engine = new NamespaceEngine(machine);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    engine.#server.once('error', reject).listen(machine.path('/run/docker.sock'), resolve);
    await promise;
    // Docker does this when it starts.
    await machine.run(['sh', '-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward']);
    return engine;
  }

  async createNetwork(name: string, spec: NetworkSpec): Promise<void> {
    const { subnet = '', ipv6 = true, options = {} } = spec;
    const isV6Subnet = subnet.includes(':');
    const pools = [await this.#requestPool(isV6Subnet ? '' : subnet, false)];
    if (ipv6) pools.push(await this.#requestPool(isV6Subnet ? subnet : '', true));
    const network = { id: randomBytes(32).toString('hex'), name, pools };
    const data = pools.map((pool) => ({
      AddressSpace: addressSpace,
      Pool: pool.subnet,
      Gateway: pool.gateway,
    }));
    this.#networks.set(name, network);
    await this.#call('NetworkDriver.CreateNetwork', {
      NetworkID: network.id,
      Options: {
        'com.docker.network.enable_ipv6': ipv6,
        // By which dockerd's event tells the name.
        'com.docker.network.generic': { name, ...options },
      },
      IPv4Data: data.slice(0, 1),
      IPv6Data: data.slice(1),
    });
  }

  async removeNetwork(name: string): Promise<void> {
    const network = this.#network(name);
    for (const { id, gateway } of network.pools) {
      await this.#release(id, gateway);
      await this.#call('IpamDriver.ReleasePool', { PoolID: id });
    }
    await this.#call('NetworkDriver.DeleteNetwork', { NetworkID: network.id });
    this.#networks.delete(name);
  }

  async run(name: string, spec: ContainerSpec): Promise<Peer> {
    const network = this.#network(spec.network);
    const id = randomBytes(32).toString('hex');
    const sandbox = `/run/docker/netns/${id.slice(0, 12)}`;
    const addresses: string[] = [];
    for (const pool of network.pools) {
      const answer = await this.#call('IpamDriver.RequestAddress', {
        PoolID: pool.id,
        Address: pool.subnet.includes(':') ? '' : (spec.address ?? ''),
        Options: null,
      });
      addresses.push(addressAnswer.parse(answer).Address);
    }
    const endpoint = { id, name, network, labels: spec.labels ?? {}, sandbox, addresses };
    this.#endpoints.set(name, endpoint);
    const ids = { NetworkID: network.id, EndpointID: id };
    const [Address, AddressIPv6 = ''] = addresses;
    const created = await this.#call('NetworkDriver.CreateEndpoint', {
      ...ids,
      Interface: { Address, AddressIPv6, MacAddress: '' },
      Options: {},
    });
    const prepare = 'mkdir -p /run/docker/netns; : >"$0"; unshare --net="$0" ip link set lo up';
    const [joined] = await Promise.all([
      this.#call('NetworkDriver.Join', { ...ids, SandboxKey: sandbox, Options: {} }),
      this.#machine.run(['sh', '-ec', prepare, sandbox]),
    ]);
    const { MacAddress: mac } = endpointAnswer.parse(created).Interface;
    await this.#machine.run(['sh', '-e'], { input: sandboxScript(endpoint, mac, joined) });
    return {
      name,
      on: this.#machine.hostname,
      addresses: addresses.map(withoutPrefix),
      serves: true,
      exec: (argv, options) =>
        this.#machine.exec(['nsenter', `--net=${sandbox}`, ...argv], options),
    };
  }

  async remove(name: string): Promise<void> {
    const endpoint = this.#endpoints.get(name) ?? assert.fail(`no endpoint ${name}`);
    const { id, network, sandbox, addresses } = endpoint;
    const ids = { NetworkID: network.id, EndpointID: id };
    // As in Docker, it is gone whatever the plugin answers.
    this.#endpoints.delete(name);
    await this.#call('NetworkDriver.Leave', ids);
    const end = 'kill -KILL $(cat "$0.pid"); umount "$0"; rm "$0" "$0.pid"';
    await this.#machine.run(['sh', '-ec', end, sandbox]);
    await this.#call('NetworkDriver.DeleteEndpoint', ids);
    for (const [index, { id: pool }] of network.pools.entries()) {
      await this.#release(pool, addresses[index] ?? '');
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    await promise;
  }

  async #requestPool(subnet: string, isV6: boolean): Promise<Pool> {
    const answer = await this.#call('IpamDriver.RequestPool', {
      AddressSpace: addressSpace,
      Pool: subnet,
      SubPool: '',
      Options: null,
      V6: isV6,
    });
    const { PoolID: id, Pool: assigned, Data } = poolAnswer.parse(answer);
    const told = Data?.[gatewayKey];
    if (told !== undefined) return { id, subnet: assigned, gateway: told };
    const gateway = await this.#call('IpamDriver.RequestAddress', {
      PoolID: id,
      Address: '',
      Options: { RequestAddressType: gatewayKey },
    });
    return { id, subnet: assigned, gateway: addressAnswer.parse(gateway).Address };
  }

  async #release(pool: string, address: string): Promise<void> {
    const call = { PoolID: pool, Address: withoutPrefix(address) };
    await this.#call('IpamDriver.ReleaseAddress', call);
  }

  async #call(method: string, body: unknown): Promise<unknown> {
    const answer = await callPlugin(this.#machine.path(pluginSocket), method, body);
    assert.equal(answer.status, 200, `${method} on ${this.#machine.hostname}: ${answer.text}`);
    return answer.body;
  }

  #network(name: string): Network {
    return this.#networks.get(name) ?? assert.fail(`no network ${name}`);
  }

  /** Answers calico-cnm's requests (src/driver/docker/docker-api.ts). */
  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname } = new URL(request.url ?? '', 'http://docker');
    response.setHeader('Content-Type', 'application/json');
    if (pathname === '/events') {
      // Nothing changes except by calls of the plugin.
      response.flushHeaders();
      return;
    }
    const [, kind = '', id = ''] = pathname.split('/');
    const networks = () =>
      this.#networks
        .values()
        .map((network) => this.#shown(network))
        .toArray();
    const answers: Readonly<Record<string, () => unknown>> = {
      '/info': () => ({ ID: `engine of ${this.#machine.hostname}` }),
      '/networks': networks,
      '/plugins': () => [],
      '/containers/json': () =>
        this.#endpoints
          .values()
          .map((endpoint) => shownContainer(endpoint))
          .toArray(),
      [`/networks/${id}`]: () => networks().find((network) => network.Id === id),
    };
    const answer = answers[kind === 'networks' && id !== '' ? `/networks/${id}` : pathname]?.();
    if (answer === undefined) response.statusCode = 404;
    response.end(JSON.stringify(answer ?? { message: `no such thing: ${pathname}` }));
  }

  #shown(network: Network) {
    const endpoints = this.#endpoints.values().filter((endpoint) => endpoint.network === network);
    return {
      Id: network.id,
      Name: network.name,
      Driver: 'calico',
      IPAM: {
        Driver: 'calico-ipam',
        Options: null,
        Config: network.pools.map(({ subnet, gateway }) => ({
          Subnet: subnet,
          Gateway: withoutPrefix(gateway),
        })),
      },
      Containers: Object.fromEntries(
        endpoints.map(({ id, name }) => [`ep-${id}`, { Name: name, EndpointID: id }]),
      ),
    };
  }
}

function shownContainer({ id, name, labels, network }: Endpoint) {
  return {
    Id: id,
    Names: [`/${name}`],
    State: 'running',
    Labels: labels,
    NetworkSettings: { Networks: { [network.name]: { EndpointID: id } } },
  };
}

function withoutPrefix(address: string): string {
  return address.split('/')[0] ?? address;
}

/** Moves the interface into the sandbox and sets it up in the order of libnetwork, then starts the web server. */
function sandboxScript(endpoint: Endpoint, mac: string, joined: unknown): string {
  const { sandbox, addresses, name } = endpoint;
  const { InterfaceName, Gateway, GatewayIPv6, StaticRoutes } = joinAnswer.parse(joined);
  const nodad = (address: string) => (address.includes(':') ? 'nodad' : '');
  const defaults = [
    ...(Gateway === undefined || Gateway === '' ? [] : [`0.0.0.0/0 via ${Gateway}`]),
    ...(GatewayIPv6 === undefined || GatewayIPv6 === '' ? [] : [`::/0 via ${GatewayIPv6}`]),
  ];
  return `
ip link set ${InterfaceName.SrcName} netns ${sandbox} name eth0
mkdir -p /run/www/${name}
echo ${name} >/run/www/${name}/index.html
nsenter --net=${sandbox} sh -e <<'SANDBOX'
ip -batch - <<'EOF'
link set eth0 address ${mac}
${addresses.map((address) => `address add ${address} dev eth0 ${nodad(address)}`).join('\n')}
link set eth0 up
${StaticRoutes.map(({ Destination, RouteType, NextHop }) =>
  RouteType === 1 ? `route add ${Destination} dev eth0` : `route add ${Destination} via ${NextHop}`,
).join('\n')}
${defaults.map((route) => `route add ${route} dev eth0`).join('\n')}
EOF
busybox httpd -f -p 8080 -h /run/www/${name} </dev/null >/dev/null 2>&1 &
echo $! >${sandbox}.pid
SANDBOX
`;
}
