"""What the pages of a site share: style, script, and the table library, each once in `assets/`.

Tables are DataTables (datatables.net), which the package itables ships whole for use without a network. It is an ES module there, and
browsers load no module from disk, so its list of exports becomes one global name; nothing else of it is touched.
"""

import re
from importlib.metadata import distribution
from pathlib import Path

from ...harness.inspection.faces.page import FOLDER as REPORT
from ...harness.inspection.faces.page import STYLE
from ...organisms.errors import PrerequisiteError
from ..pages.style import DRAWINGS

HERE = Path(__file__).parent
EXPORTS = re.compile(r"export ?\{([^{}]*)\};?")
LIBRARY = "datatables.js"
LICENCES = "LICENCES.txt"


def assets() -> dict[str, str]:
    """File name → text.

    Raises:
        PrerequisiteError: no itables, or one whose bundle is not as expected.
    """
    bundle, licences = _library()
    own = (HERE / "site.css").read_text(encoding="utf-8") + DRAWINGS + (REPORT / STYLE).read_text(encoding="utf-8")
    script = (HERE / "site.js").read_text(encoding="utf-8")
    return {"site.css": own, "site.js": script, LIBRARY: bundle, LICENCES: licences}


def _library() -> tuple[str, str]:
    """The table library as a plain script, and the licences of what is in it."""
    try:
        from itables.utils import read_package_file
    except ImportError as error:
        raise PrerequisiteError(
            "the site's tables need the package itables, which is not installed: pip install 'diffbench[site]'"
        ) from error
    source = read_package_file("html/dt_bundle.js")
    lists = EXPORTS.findall(source)
    pairs = [pair.partition(" as ") for pair in lists[0].split(",")] if len(lists) == 1 else []
    exported = {name: own for own, _, name in pairs}
    version = distribution("itables").version
    if "default" not in exported:
        raise PrerequisiteError(
            f"itables {version} ships DataTables in a form that is not known here; install one that is: pip install 'itables>=2.9,<3'"
        )
    plain = EXPORTS.sub(f"window.DataTable={exported['default']};", source)
    own = next(f for f in distribution("itables").files or [] if f.name == "LICENSE")
    kept = (Path(str(own.locate()))).read_text(encoding="utf-8")
    return f"(()=>{{{plain}\n}})();\n", f"{LIBRARY} is from itables {version}:\n\n{kept}\n{NOTICE}"


NOTICE = """It holds, each with its notice at the end of the file: DataTables and its extensions (datatables.net, MIT), jQuery (MIT),
and what these bring (JSZip, MIT; pako, MIT; FileSaver.js, MIT; icons of Lucide, ISC). All else in this folder and the pages
themselves are diffbench's (Apache-2.0).
"""
