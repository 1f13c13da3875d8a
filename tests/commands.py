"""Commands with flags of their own, run in the test's process."""

import pytest


def exit_status(module, *args):
    """Run `module.main` as if it were the first time; the status that it exits with."""
    module.FLAGS.unparse_flags()
    for name in module.FLAGS:
        module.FLAGS[name].unparse()
    with pytest.raises(SystemExit) as e:
        module.main([module.__name__.rpartition('.')[2], *args])
    return e.value.code
