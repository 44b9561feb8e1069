import type { ContainerEngine, ContainerSpec, NetworkSpec } from './container-engine.ts';
import type { Host } from '../host.ts';
import type { Peer } from './peer.ts';
import { words } from '../words.ts';

/** Containers of a host's Docker. */
export class DockerEngine implements ContainerEngine {
  readonly #host: Host;

  constructor(host: Host) {
    this.#host = host;
  }

  async createNetwork(name: string, spec: NetworkSpec): Promise<void> {
    const { subnet, ipv6 = true, options = {} } = spec;
    const chosen = Object.entries(options).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
    await this.#host.docker(
      ...words`network create --driver calico --ipam-driver calico-ipam ${ipv6 ? ['--ipv6'] : []}
        ${subnet === undefined ? [] : ['--subnet', subnet]} ${chosen} ${name}`,
    );
  }

  async removeNetwork(name: string): Promise<void> {
    await this.#host.docker('network', 'rm', name);
  }

  async run(name: string, spec: ContainerSpec): Promise<Peer> {
    const labels = Object.entries(spec.labels ?? {}).flatMap(([key, value]) => [
      '--label',
      `${key}=${value}`,
    ]);
    const ip = spec.address === undefined ? [] : ['--ip', spec.address];
    const serve = `mkdir -p /tmp/www; echo ${name} >/tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www`;
    await this.#host.docker(
      ...words`run -d --name ${name} --net ${spec.network} ${ip} ${labels} calico-test sh -c ${serve}`,
    );
    const network = `(index .NetworkSettings.Networks "${spec.network}")`;
    const format = `{{.State.Pid}} {{${network}.IPAddress}} {{${network}.GlobalIPv6Address}}`;
    const shown = await this.#host.docker('inspect', '-f', format, name);
    const [pid = '', ...addresses] = shown.split(' ');
    return {
      name,
      on: this.#host.machine.hostname,
      addresses: addresses.filter((address) => address !== ''),
      serves: true,
      exec: (argv, options) =>
        this.#host.exec(['nsenter', `--net=/proc/${pid}/ns/net`, ...argv], options),
    };
  }

  async remove(name: string): Promise<void> {
    await this.#host.docker('rm', '-f', name);
  }

  /** Its containers end with the host. */
  async [Symbol.asyncDispose](): Promise<void> {}
}
