# A process that is kept running: under systemd where that is PID 1, else under a small supervisor.
# Either way `/usr/local/sbin/NAME start|stop|restart|status` controls it.
# It is not started here: its code comes with the deployment.
provides :greenroom_service
unified_mode true

property :command, String, required: true
property :directory, String, required: true
property :user, String, required: true
property :log, String, required: true

action_class do
  def systemd?
    ::File.directory?('/run/systemd/system')
  end
end

action :create do
  systemd_unit "#{new_resource.name}.service" do
    content(
      Unit: { Description: new_resource.name, ConditionPathExists: new_resource.directory },
      Service: {
        ExecStart: "#{new_resource.directory}/#{new_resource.command}",
        WorkingDirectory: new_resource.directory,
        User: new_resource.user,
        Restart: 'always',
        RestartSec: 1,
        StandardOutput: "append:#{new_resource.log}",
        StandardError: "append:#{new_resource.log}",
      },
      Install: { WantedBy: 'multi-user.target' }
    )
    verify false # the command is not there before the first deployment
    action [:create, :enable]
    only_if { systemd? }
  end

  template "/usr/local/sbin/#{new_resource.name}" do
    cookbook 'greenroom_base'
    source systemd? ? 'control-systemd.erb' : 'control-supervised.erb'
    mode '0755'
    variables(
      name: new_resource.name,
      command: new_resource.command,
      directory: new_resource.directory,
      user: new_resource.user,
      log: new_resource.log
    )
  end
end

action :restart do
  execute "/usr/local/sbin/#{new_resource.name} restart" do
    only_if "/usr/local/sbin/#{new_resource.name} status"
  end
end
