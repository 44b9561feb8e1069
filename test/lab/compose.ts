import type { NetworkLab } from './network-lab.ts';

/** The type of a project's network. */
export type ComposeNetwork = 'bridge' | 'calico';

const networks: Readonly<Record<ComposeNetwork, string>> = {
  bridge: 'driver: bridge',
  calico: 'driver: calico\n    ipam:\n      driver: calico-ipam',
};

/** A Compose project of equal containers on one network; engine 28.5 has `docker compose`. */
export class ComposeProject {
  readonly name: string;
  readonly #lab: NetworkLab;
  readonly #file: string;

  private constructor(lab: NetworkLab, name: string) {
    this.#lab = lab;
    this.name = name;
    this.#file = `/root/${name}.yaml`;
  }

  static async make(
    lab: NetworkLab,
    name: string,
    options: { readonly network: ComposeNetwork; readonly containers: number },
  ): Promise<ComposeProject> {
    const project = new ComposeProject(lab, name);
    const input = [
      'services:',
      '  app:',
      '    image: calico-test',
      '    pull_policy: never',
      '    stop_signal: SIGKILL',
      `    scale: ${options.containers}`,
      'networks:',
      '  default:',
      `    ${networks[options.network]}`,
      '',
    ].join('\n');
    await lab.host.run(['sh', '-c', 'cat >"$0"', project.#file], { input });
    return project;
  }

  /** Starts all containers together; returns the time it took, in milliseconds. Throws the output of Compose. */
  async up(...options: readonly string[]): Promise<number> {
    const started = performance.now();
    await this.#compose('up', '--detach', '--quiet-pull', ...options);
    return performance.now() - started;
  }

  async down(): Promise<void> {
    await this.#compose('down', '--timeout', '1');
  }

  /** Returns the name and address of each running container. */
  async addresses(): Promise<readonly (readonly [name: string, address: string])[]> {
    const ids = (await this.#compose('ps', '--quiet')).split('\n').filter((id) => id !== '');
    const format = '{{.Name}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
    const listed = await this.#lab.docker('inspect', '-f', format, ...ids);
    return listed.split('\n').map((line) => {
      const [name = '', address = ''] = line.slice(1).split(' ');
      return [name, address];
    });
  }

  #compose(...argv: readonly string[]): Promise<string> {
    return this.#lab.host.run(
      ['docker', 'compose', '--file', this.#file, '--project-name', this.name, ...argv],
      { timeoutMs: 300_000 },
    );
  }
}
