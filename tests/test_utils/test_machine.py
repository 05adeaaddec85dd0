from mmfgl.utils.machine import machine_settings


def test_settings_name_no_path():
    settings = machine_settings()
    assert int(settings['cores']) >= 1
    assert settings['mmdet'][0].isdigit()
    assert not any('/' in value for value in settings.values())
