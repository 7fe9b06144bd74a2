#!/bin/sh
# Installs the C interface: headers, both libraries, the pkg-config file, the manual page and the examples.
#
#     crates/pagemesh-ffi/install.sh [--prefix=/usr/local] [--libdir=PREFIX/lib] [--destdir=] [--from=target/release]
#
# Build the libraries before: cargo build --release -p pagemesh-ffi. With --destdir everything goes below that folder, as
# packagers want it, and says nothing of it.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
prefix=/usr/local
libdir=
destdir=
from=${CARGO_TARGET_DIR:-$here/../../target}/release
for argument in "$@"; do
    case $argument in
        --prefix=*) prefix=${argument#*=} ;;
        --libdir=*) libdir=${argument#*=} ;;
        --destdir=*) destdir=${argument#*=} ;;
        --from=*) from=${argument#*=} ;;
        *)
            sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
            exit 2
            ;;
    esac
done
libdir=${libdir:-$prefix/lib}
case $prefix in
    /*) ;;
    *) echo "install.sh: --prefix must be a path from the root; it is '$prefix'" >&2; exit 2 ;;
esac
for library in libdsm.so libdsm.a; do
    if [ ! -f "$from/$library" ]; then
        echo "install.sh: $from/$library is not there; build it (cargo build --release -p pagemesh-ffi), or say where it is by --from" >&2
        exit 1
    fi
done

version=$(sed -n 's/^#define DSM_VERSION "\(.*\)"$/\1/p' "$here/include/dsm/dsm.h")

install -d "$destdir$prefix/include/dsm" "$destdir$libdir/pkgconfig" "$destdir$prefix/share/man/man7" \
    "$destdir$prefix/share/doc/dsm/examples"
install -m 644 "$here/include/dsm/dsm.h" "$here/include/dsm/types.h" "$destdir$prefix/include/dsm/"
install -m 755 "$from/libdsm.so" "$destdir$libdir/libdsm.so.$version"
ln -sf "libdsm.so.$version" "$destdir$libdir/libdsm.so.0"
ln -sf libdsm.so.0 "$destdir$libdir/libdsm.so"
install -m 644 "$from/libdsm.a" "$destdir$libdir/"
sed -e "s|@prefix@|$prefix|" -e "s|@libdir@|$libdir|" -e "s|@version@|$version|" "$here/dsm.pc.in" \
    >"$destdir$libdir/pkgconfig/dsm.pc"
chmod 644 "$destdir$libdir/pkgconfig/dsm.pc"
install -m 644 "$here/man/dsm.7" "$destdir$prefix/share/man/man7/"
install -m 644 "$here"/examples/*.c "$destdir$prefix/share/doc/dsm/examples/"
