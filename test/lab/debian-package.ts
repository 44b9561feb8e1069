import { built, checkout } from './built.ts';
import type { Host } from './host.ts';
import { managedPluginFolder } from './managed-plugin.ts';

/** The Debian package of this checkout, and the same with version 99.0. */
export interface DebianPackages {
  readonly present: string;
  readonly newer: string;
}

/** Returns the packages, under the same paths in every machine; building them takes half a minute. */
export async function debianPackages(): Promise<DebianPackages> {
  const plugin = await managedPluginFolder();
  const sources = ['plugin/**/*', 'config.json', 'package.json', 'tsconfig.json', 'README.md'];
  const script = `
    mkdir -p "$1"
    case $(uname -m) in aarch64) processor=arm64 ;; *) processor=amd64 ;; esac
    "$0/plugin/deb" "$processor" "$2" "$1/present.deb"
    dpkg-deb -R "$1/present.deb" "$1/newer"
    sed -i 's/^Version: .*/Version: 99.0/' "$1/newer/DEBIAN/control"
    sed -i 's/^var version = ".*"/var version = "99.0"/' $(find "$1/newer/usr/lib/calico-cnm/dist" -name '*.js')
    dpkg-deb --root-owner-group -Znone -b "$1/newer" "$1/newer.deb" >/dev/null
    rm -rf "$1/newer"`;
  const folder = await built('deb', sources, (made) => [
    'sh',
    '-ec',
    script,
    checkout,
    made,
    plugin,
  ]);
  return { present: `${folder}/present.deb`, newer: `${folder}/newer.deb` };
}

/** Returns the files and kernel state of the package on a host. The mount point of its data belongs to the lab. */
export async function leftOfPackage(host: Host): Promise<readonly string[]> {
  const said = await host.run([
    'sh',
    '-c',
    `find /etc /usr /run /var/lib ! -path '/var/lib/docker/*' ! -path '/var/lib/dpkg/*' ! -path /var/lib/calico -name '*calico*'
     find /var/lib/calico -mindepth 1 ! -name '*calico*'
     iptables-save | grep cali; ip6tables-save | grep cali; ipset list -n; ip -o link | grep cali; true`,
  ]);
  return said.split('\n').filter((line) => line !== '');
}
