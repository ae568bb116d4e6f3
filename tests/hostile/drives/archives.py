"""Archives that lie: what is refused, and that nothing lands outside."""
import io
import os
import tarfile
import zipfile

KINDS = {"file": tarfile.REGTYPE, "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE,
         "char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE,
         "folder": tarfile.DIRTYPE}


def tar(members):
    """Members are tables: name, and what there is of kind, text, link, mode, size."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member in members:
            info = tarfile.TarInfo(member["name"])
            info.type = KINDS[member.get("kind", "file")]
            info.linkname = member.get("link", "")
            info.mode = member.get("mode", 0o644)
            info.devmajor, info.devminor = 1, 3
            text = member.get("text", "x").encode() if info.type == tarfile.REGTYPE else b""
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    return data.getvalue()


def zipped(members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members:
            info = zipfile.ZipInfo(member["name"])
            info.external_attr = member.get("attributes", 0o100644) << 16
            text = member.get("text", "x") * member.get("times", 1)
            archive.writestr(info, text, zipfile.ZIP_DEFLATED)
    return data.getvalue()


def upload(arena, data, kind="application/octet-stream"):
    answer = arena.agent.client.ask("POST", "/code", data, {"Content-Type": kind})
    if answer.status == 201:
        return "taken"
    return answer.error().get("code", str(answer.status))


def in_place(arena, members):
    """The same members with the canary's path where they name it, absolute or from the root up."""
    path = arena.outside.canary.path
    folder = arena.outside.canary.folder
    up = "../" * 24
    places = {"CANARY": path, "FOLDER": folder, "UP": up + path.lstrip("/"),
              "UPFOLDER": up + folder.lstrip("/")}
    def filled(value):
        for name, place in places.items():
            value = value.replace("{" + name + "}", place) if isinstance(value, str) else value
        return value
    return [{key: filled(value) for key, value in member.items()} for member in members]


def members(arena, form, archives):
    """Archives by label; after each the canary has to be as it was."""
    make = {"tar": tar, "zip": zipped}[form]
    outcomes = {}
    for label, listed in archives.items():
        outcomes[label] = upload(arena, make(in_place(arena, listed)))
        harmed = arena.outside.check_canary()
        if harmed:
            outcomes[label] = "out: " + harmed.split(":")[0]
            mend_canary(arena)
    return outcomes


def mend_canary(arena):
    """For the controls, which go on."""
    canary = arena.outside.canary
    for name in os.listdir(canary.folder):
        os.unlink(os.path.join(canary.folder, name))
    os.rmdir(canary.folder)
    arena.outside.canary = type(canary)(canary.folder)


def bombs(arena):
    """Small archives that would be large trees: by size, by number, by depth, by compression."""
    mib = "\0" * (1 << 20)
    outcomes = {
        "size": upload(arena, zipped([{"name": f"f{i}", "text": mib, "times": 64} for i in range(8)])),
        "number": upload(arena, tar([{"name": f"f{i}", "text": ""} for i in range(30000)])),
        "depth": upload(arena, tar([{"name": "/".join(["d"] * 200) + "/f"}])),
        "length": upload(arena, tar([{"name": "n" * 300}])),
    }
    outcomes["truncated"] = upload(arena, tar([{"name": "handler.py", "text": "x" * 4096}])[:2000])
    outcomes["nothing"] = upload(arena, b"")
    outcomes["no archive"] = upload(arena, os.urandom(4096))
    outcomes["lying size"] = upload(arena, lying_tar())
    return outcomes


def lying_tar():
    """A member that says it is larger than the whole archive."""
    data = bytearray(tar([{"name": "handler.py", "text": "x" * 100}]))
    data[124:136] = b"77777777777\0"
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def what_is_unpacked(arena):
    """A file with the set-user-id bit that is taken in: inside it is nobody's but a plain file's."""
    data = tar([{"name": "handler.py", "text": "def main(e, c):\n import os\n"
                 " return {'mode': oct(os.stat('/function/s').st_mode & 0o7777)}\n"},
                {"name": "s", "mode": 0o6777}])
    answer = arena.agent.client.ask("POST", "/code", data)
    if answer.status != 201:
        return {"bits": "refused"}
    arena.agent.deploy("bits", code=answer.json()["digest"])
    try:
        mode = arena.agent.call("bits", {}).json()["mode"]
        return {"bits": "kept" if int(mode, 8) & 0o6000 else "dropped"}
    finally:
        arena.agent.remove("bits")
