#pragma once

#include <string_view>

namespace gpustrap {

/// How every text begins that a host's login shell is given, whichever it is: one `/bin/sh -c '…'`, in which no quote, exclamation mark or
/// backslash may stand. What a login file leaves of PATH may have none of the system's folders. Output goes to $nu where nobody wants it:
/// a command whose output goes to a /dev/null that is broken is not even run, and /dev/zero swallows as well.
constexpr std::string_view kHostShell =
    "/bin/sh -c 'PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH; "
    "nu=/dev/null; test -c $nu && test -w $nu || nu=/dev/zero; ";

}  // namespace gpustrap
